// What tokens got of the attention: softmax(Q K^T) column by column, a few query rows at a time, so that
// memory stays linear in the number of tokens.
#pragma once

#include "press/scorer.h"

namespace curdkv {

enum class Column {
  sum,           // of the attention a key got from the queries
  count_strong,  // of the queries that gave it more than 1 / n_tokens
};

// Causal attention of the last n queries over the keys they see: [n_tokens, n_head], per query head.
Result<Scores> attention_columns(LayerView& layer, int64_t n, Column column);

}  // namespace curdkv
