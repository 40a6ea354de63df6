// The inner loops of ragged attention over packed rows on the CPU; see attention_kernel.h for those over
// rows as they lie. Results are in the rows' own basis: sums of values are to be turned back (turn_row()).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "attention/attention_kernel.h"
#include "base/scratch.h"
#include "cache/packed_rows.h"

namespace curdkv {

// A few queries of one KV head's group, turned, and as whole numbers in two bytes each.
struct PackedQueries {
  int64_t n;
  int64_t width;  // padded_row(d_k)
  float* turned;  // F32 [width, n], already scaled
  // turned = scale * (256 high + low), both of four elements side by side, and of kMostQueries queries:
  // [n / kMostQueries][width / 4][kMostQueries][high, low][4].
  int8_t* bytes;
  float* scale;    // [n]
  float* sum;      // [n], of the whole numbers
  float* of_mean;  // [n], the product with the mean key of the rows at hand

  static PackedQueries lay_out(Scratch& scratch, int64_t n, int64_t d_k);
  // From q, F32 [d_k, n], scaled. coarse: in the high byte alone, for add_squared_weights().
  void set(const float* q, int64_t d_k, bool coarse = false) const;
};

struct PackedBlock {
  const PackedQueries& q;
  const PackedRows& k;
  const PackedRows& v;
  int64_t first;  // row, a multiple of kBlockRows
  int64_t n;      // rows, to kBlockRows; every query sees all
};

// Floats of scratch that attend_packed_block() needs: scores, and weights as whole numbers.
inline constexpr int64_t kPackedScratchFloats = kMostQueries * (kBlockRows + kValueBlock / 2 + 2);

// As attend_block(); `out` has room for padded_row(d_v) + 2 floats a query.
void attend_packed_block(const PackedBlock& block, float* out, size_t out_stride, float* scratch);

// Of coarse queries, scaled to base 2. squares[r] += the square of each query's weight on row r: of 2^(Q K^T)
// over its sum of all rows of k. At most kMostQueries. squares has room for whole blocks; scratch:
// squared_weights_floats(k.n). Returns the sum over queries of shares of their weights on the rows from
// first[query] on, as far as there are such.
int64_t squared_weights_floats(int64_t n_rows);
float add_squared_weights(const PackedQueries& q, const PackedRows& k, const float* first,
                          std::span<const float> shares, float* scratch, float* squares);

}  // namespace curdkv
