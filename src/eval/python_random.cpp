#include "eval/python_random.h"

#include <bit>
#include <cmath>
#include <numeric>
#include <set>

namespace curdkv::eval {

// init_by_array of the generator's authors (Matsumoto and Nishimura, mt19937ar, 2002) with the key {seed};
// std::mt19937 offers no way to a state seeded so.
PythonRandom::PythonRandom(uint32_t seed) {
  state_[0] = 19650218;
  for (uint32_t i = 1; i < kWords; ++i) state_[i] = 1812433253u * (state_[i - 1] ^ (state_[i - 1] >> 30)) + i;
  size_t i = 1;
  const auto step = [&](uint32_t factor, uint32_t plus) {
    state_[i] = (state_[i] ^ ((state_[i - 1] ^ (state_[i - 1] >> 30)) * factor)) + plus;
    if (++i == kWords) {
      state_[0] = state_[kWords - 1];
      i = 1;
    }
  };
  for (size_t k = 0; k < kWords; ++k) step(1664525u, seed);
  for (size_t k = 1; k < kWords; ++k) step(1566083941u, 0u - static_cast<uint32_t>(i));
  state_[0] = 0x80000000u;
}

uint32_t PythonRandom::next() {
  if (at_ == kWords) {
    for (size_t i = 0; i < kWords; ++i) {
      const uint32_t y = (state_[i] & 0x80000000u) | (state_[(i + 1) % kWords] & 0x7fffffffu);
      state_[i] = state_[(i + 397) % kWords] ^ (y >> 1) ^ ((y & 1) ? 0x9908b0dfu : 0);
    }
    at_ = 0;
  }
  uint32_t y = state_[at_++];
  y ^= y >> 11;
  y ^= (y << 7) & 0x9d2c5680u;
  y ^= (y << 15) & 0xefc60000u;
  return y ^ (y >> 18);
}

uint32_t PythonRandom::bits(int n) {
  return next() >> (32 - n);
}

std::array<uint32_t, 4> PythonRandom::bits_128() {
  std::array<uint32_t, 4> words;
  for (uint32_t& w : words) w = next();
  return words;
}

uint32_t PythonRandom::below(uint32_t n) {
  const int width = std::bit_width(n);
  uint32_t r = bits(width);
  while (r >= n) r = bits(width);
  return r;
}

uint32_t PythonRandom::between(uint32_t a, uint32_t b) {
  return a + below(b - a + 1);
}

double PythonRandom::unit() {
  const uint32_t high = next() >> 5, low = next() >> 6;
  return (high * 67108864.0 + low) / 9007199254740992.0;  // 2^26, 2^53
}

std::string PythonRandom::choices(std::string_view of, size_t n) {
  std::string out;
  while (out.size() < n) out += of[static_cast<size_t>(unit() * static_cast<double>(of.size()))];
  return out;
}

std::vector<size_t> PythonRandom::sample(size_t n, size_t count) {
  // Few of many: draw again what was drawn before. Otherwise: draw from a pool that shrinks.
  size_t set_size = 21;
  if (count > 5) {
    set_size += size_t{1} << (2 * static_cast<size_t>(
                                      std::ceil(std::log(3.0 * static_cast<double>(count)) / std::log(4.0))));
  }
  std::vector<size_t> out;
  if (n <= set_size) {
    std::vector<size_t> pool(n);
    std::iota(pool.begin(), pool.end(), size_t{0});
    for (size_t i = 0; i < count; ++i) {
      const size_t j = below(static_cast<uint32_t>(n - i));
      out.push_back(pool[j]);
      pool[j] = pool[n - i - 1];
    }
    return out;
  }
  std::set<size_t> seen;
  while (out.size() < count) {
    const size_t j = below(static_cast<uint32_t>(n));
    if (seen.insert(j).second) out.push_back(j);
  }
  return out;
}

}  // namespace curdkv::eval
