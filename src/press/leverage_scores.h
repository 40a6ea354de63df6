// Leverage scores of the rows of tall matrices, by Gram matrix and Cholesky: row x of A scores
// x (A^T A + lambda m I)^-1 x^T, with m the mean of the Gram matrix's diagonal.
#pragma once

#include "press/layer_ops.h"

namespace curdkv {

struct Ridge {
  double of_mean = 0;   // lambda
  double absolute = 0;  // added to lambda m
};

// `rows` builds F16 or F32 [d, n, n_head] for tokens [first, first + n) of [begin, begin + count); copies: it
// makes copies of them, and does not give them as they lie. No ridge gives
// the exact scores. With little or none, a second Cholesky step follows on rows whitened by the first
// (CholeskyQR2), as F32 would lose the small directions of a Gram matrix otherwise. Directions that no row
// has count nothing. Returns [count, n_head].
Result<Scores> leverage_scores(LayerView& layer, int64_t begin, int64_t count, int64_t d, int64_t n_head,
                               Ridge ridge, const SliceGraph& rows, bool copies);

}  // namespace curdkv
