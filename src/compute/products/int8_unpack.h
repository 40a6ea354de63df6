// GGUF's quantised weights as 8-bit integers with a scale and a minimum for each block of 32.
#pragma once

#include <array>
#include <span>

#include "compute/products/kernel.h"

namespace curdkv {

inline constexpr int64_t kInt8Block = 32;

// weight[i] = scale * q[i] + min
struct Int8Block {
  std::array<int8_t, kInt8Block> q;
  float scale;
  float min;
};

// Whether blocks of this type have minima other than 0.
bool has_minima(ggml_type type);

// Whether the blocks are exactly the type's; other quantised types are quantised anew, to 8 bits.
bool unpacks_exactly(ggml_type type);

// Whether their q are of -16 to 15, or of 0 to 31 where blocks have minima.
bool fits_5_bits(ggml_type type);

// A row's n_in / kInt8Block blocks, by to_float() and in 8 bits; w's type is a quantised one. floats: room
// for n_in.
void quantise_row_anew(const WeightMatrix& w, int64_t row, std::span<Int8Block> to, float* floats);

// The same, with the type's own blocks where they are exact. Only where there is a kernel in 8 bits.
void unpack_row(const WeightMatrix& w, int64_t row, std::span<Int8Block> to, float* floats);

}  // namespace curdkv
