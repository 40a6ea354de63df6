#include "press/gaussian.h"

#include <cmath>
#include <numbers>
#include <random>

namespace curdkv {

// Box-Muller over a 64-bit Mersenne twister: the standard library's normal distribution may differ by
// platform.
std::vector<float> gaussian_matrices(uint64_t seed, int64_t il, int64_t d, int64_t rank, int64_t first,
                                     int64_t n) {
  std::vector<float> out;
  out.reserve(static_cast<size_t>(n * d * rank));
  for (int64_t i = first; i < first + n; ++i) {
    std::seed_seq mix{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32),
                      static_cast<uint32_t>(il), static_cast<uint32_t>(i)};
    std::mt19937_64 bits(mix);
    const auto uniform = [&] { return (static_cast<double>(bits() >> 11) + 0.5) * 0x1p-53; };  // in (0, 1)
    for (int64_t j = 0; j < d * rank; ++j) {
      const double radius = std::sqrt(-2 * std::log(uniform()));
      out.push_back(static_cast<float>(radius * std::cos(2 * std::numbers::pi * uniform())));
    }
  }
  return out;
}

}  // namespace curdkv
