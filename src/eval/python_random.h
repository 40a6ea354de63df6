// CPython's random.Random, as far as RULER's generator draws from it, so that the same seed makes the same
// data: the Mersenne Twister seeded by an integer, and the ways CPython turns its words into choices.
#pragma once

#include <stddef.h>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace curdkv::eval {

class PythonRandom {
 public:
  explicit PythonRandom(uint32_t seed);  // random.seed(seed)

  uint32_t bits(int n);                                // getrandbits(n), 1 <= n <= 32
  std::array<uint32_t, 4> bits_128();                  // getrandbits(128), least significant word first
  uint32_t below(uint32_t n);                          // randrange(n), n >= 1
  uint32_t between(uint32_t a, uint32_t b);            // randint(a, b), both included
  std::vector<size_t> sample(size_t n, size_t count);  // sample(range(n), count), count <= n
  double unit();                                       // random(), in [0, 1)
  std::string choices(std::string_view of, size_t n);  // choices(of, k=n), of characters

  template <typename T>
  void shuffle(std::vector<T>& items) {
    for (size_t i = items.size(); i-- > 1;) std::swap(items[i], items[below(static_cast<uint32_t>(i) + 1)]);
  }

 private:
  uint32_t next();

  static constexpr size_t kWords = 624;
  std::array<uint32_t, kWords> state_;
  size_t at_ = kWords;
};

}  // namespace curdkv::eval
