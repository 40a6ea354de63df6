// What scorers have in common: passes over a layer's tokens slice by slice, and light work on the host.
#pragma once

#include <functional>

#include "press/scorer.h"

namespace curdkv {

// F32 [d, n, heads], contiguous.
ggml_tensor* as_f32(ScoreGraph& graph, ggml_tensor* rows);

// Builds the result for tokens [first, first + n): F32, contiguous.
using SliceGraph = std::function<ggml_tensor*(ScoreGraph&, int64_t first, int64_t n)>;

// What decides how large slices are: F32 copies stay small, and an operation's time within a second or so.
struct SliceCost {
  double token_work = 0;  // multiplications of the largest operation for a token, where they are many
  bool copies = true;     // `build` makes F32 copies of rows
};

// Runs `build` on slices of tokens [first, first + n) and puts its results, F32 [slice, n_head], side by
// side: [n, n_head].
Result<Scores> per_token(LayerView& layer, int64_t first, int64_t n, int64_t n_head, const SliceGraph& build,
                         const SliceCost& cost = {});

// Adds up `build`'s results, all of one shape, over slices of tokens [first, first + n). size: elements of
// the sum, if a result may be several summands one behind the other.
Result<std::vector<double>> sum_slices(LayerView& layer, int64_t first, int64_t n, const SliceGraph& build,
                                       const SliceCost& cost = {}, size_t size = 0);

// Sum over ne0 of the squares of F32 [d, n, heads]: F32 [n, heads].
ggml_tensor* squared_norms(ScoreGraph& graph, ggml_tensor* rows);

// Sum over ne1 of the rows' outer products with themselves: F32 [d, n, heads] to [d, d, heads].
ggml_tensor* gram_matrix(ScoreGraph& graph, ggml_tensor* rows);

// Sum over ne1 of F32 [n, m, heads]: F32 [n, 1, heads].
ggml_tensor* sum_columns(ScoreGraph& graph, ggml_tensor* x);

// Squared L2 norms of tokens [first, first + n) of what `rows` gives as it lies, such as layer.values():
// [n, n_head].
Result<Scores> row_norms(LayerView& layer, int64_t first, int64_t n, int64_t n_head, const SliceGraph& rows);

// Squared L2 norms of all keys or all values: [n_tokens, n_head_kv].
Result<Scores> squared_key_norms(LayerView& layer);
Result<Scores> squared_value_norms(LayerView& layer);

// Mean over each KV head's query heads: [n_tokens, n_head] to [n_tokens, n_head_kv].
Scores mean_over_groups(const Scores& scores, int64_t n_group);

// Mean over `width` neighbouring tokens, as many as there are at the ends; or, with zeros beyond the ends,
// always divided by width, as torch's avg_pool1d does.
enum class Ends { shorter, zeros };
Scores moving_average(const Scores& scores, int64_t width, Ends ends);

// Mean 0 and standard deviation 1 (unbiased) over all heads and tokens.
void standardise(Scores& scores);

// Puts `value` at tokens [first, first + n) of every head.
void fill_tokens(Scores& scores, int64_t first, int64_t n, float value);

float highest(const Scores& scores);

// Puts the last n tokens of every head at `top`, level with each other but for a hair, so that a budget below
// n keeps the latest.
void keep_latest(Scores& scores, int64_t n, float top);

}  // namespace curdkv
