// Sizes that everything computed agrees on.
#pragma once

#include <cstdint>

namespace curdkv {

inline constexpr int64_t kTileTokens = 64;  // ggml's flash attention takes queries in tiles of this many

// Chunks of several tokens are padded to a multiple of this, so that the same matrix kernels, and so the same
// rounding, serve a token wherever a chunk ends, and in whatever company.
inline constexpr int64_t kExtendPad = 4;

// A context or a batch: positions are 32-bit integers in ggml, and sums of a few such lengths stay far from
// where 64 bits end.
inline constexpr int64_t kMostTokens = int64_t{1} << 30;

inline int64_t round_up(int64_t n, int64_t unit) {
  return (n + unit - 1) / unit * unit;
}

}  // namespace curdkv
