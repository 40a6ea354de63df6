// Tiles in plain C++, as Intel documents TDPBF16PS: every step along k adds up the even and the odd products
// of 16 pairs, then both to the sum; each addition is rounded to the nearest F32, and numbers too small for a
// normal one count as 0. (The products themselves, of BF16, fit F32.) What is multiplied outside begin() and
// end() is no number.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "compute/bf16_tiles.h"

namespace curdkv::testing {

inline thread_local int n_tiles_begun = 0;

inline float normal_or_zero(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  return std::bit_cast<float>((bits & 0x7f800000) == 0 ? bits & 0x80000000 : bits);
}

inline float widened(uint32_t bf16) {
  return normal_or_zero(std::bit_cast<float>(bf16 << 16));
}

// b's pair of k and column j: the even one of k is the lower half.
inline void add_step(const ggml_bf16_t* a, const ggml_bf16_t* b, float (&sum)[kTileSide][kTileSide]) {
  constexpr int64_t kPairs = kTileSide / 2;
  float even_b[kPairs][kTileSide], odd_b[kPairs][kTileSide];
  for (int64_t k = 0; k < kPairs; ++k) {
    for (int64_t j = 0; j < kTileSide; ++j) {
      even_b[k][j] = widened(b[(k * kTileSide + j) * 2].bits);
      odd_b[k][j] = widened(b[(k * kTileSide + j) * 2 + 1].bits);
    }
  }
  for (int64_t i = 0; i < kTileSide; ++i) {
    float even[kTileSide] = {}, odd[kTileSide] = {};
    for (int64_t k = 0; k < kPairs; ++k) {
      const float even_a = widened(a[i * kTileSide + 2 * k].bits),
                  odd_a = widened(a[i * kTileSide + 2 * k + 1].bits);
      for (int64_t j = 0; j < kTileSide; ++j) {
        even[j] = normal_or_zero(even[j] + even_a * even_b[k][j]);
        odd[j] = normal_or_zero(odd[j] + odd_a * odd_b[k][j]);
      }
    }
    for (int64_t j = 0; j < kTileSide; ++j)
      sum[i][j] = normal_or_zero(sum[i][j] + normal_or_zero(even[j] + odd[j]));
  }
}

inline void multiply_emulated(const ggml_bf16_t* a, const ggml_bf16_t* b, int64_t n_steps, float* c,
                              size_t c_stride) {
  float sum[kTileSide][kTileSide] = {};
  for (int64_t s = 0; s < n_steps; ++s, a += kTileSide * kTileSide, b += kTileSide * kTileSide)
    add_step(a, b, sum);
  for (auto& row : sum) {
    if (n_tiles_begun != 1) std::fill_n(row, kTileSide, std::numeric_limits<float>::quiet_NaN());
    std::copy_n(row, kTileSide, c);
    c += c_stride;
  }
}

inline void round_emulated(const float* x, int64_t n, ggml_bf16_t* to) {
  for (int64_t i = 0; i < n; ++i) {
    const auto bits = std::bit_cast<uint32_t>(normal_or_zero(x[i]));
    to[i].bits =
        static_cast<uint16_t>(std::isnan(x[i]) ? bits >> 16 | 64 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  }
}

inline constexpr Bf16Tiles kEmulatedTiles = {[] { ++n_tiles_begun; }, [] { --n_tiles_begun; },
                                             multiply_emulated, round_emulated};

// And the processor's own, if it has any.
inline std::vector<const Bf16Tiles*> all_tiles() {
  std::vector<const Bf16Tiles*> all = {&kEmulatedTiles};
  if (amx_tiles() != nullptr) all.push_back(amx_tiles());
  return all;
}

}  // namespace curdkv::testing
