// What tokens got of the attention: softmax(Q K^T) column by column, a few query rows at a time, so that
// memory stays linear in the number of tokens.
#pragma once

#include <functional>

#include "press/scorer.h"

namespace curdkv {

// What some queries' attention says of the keys: from softmax(Q K^T), F32 [n_seen, queries, n_head], a
// query's row 0 where it does not see, to F32 [n_seen, 1, n_head]. sum_columns() is one.
using ColumnGraph = std::function<ggml_tensor*(ScoreGraph&, ggml_tensor* attention)>;

// Causal attention of the last n queries over the keys they see, what `column` says of it added up:
// [n_tokens, n_head], per query head.
Result<Scores> attention_columns(LayerView& layer, int64_t n, const ColumnGraph& column);

}  // namespace curdkv
