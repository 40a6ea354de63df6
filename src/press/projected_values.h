// What values write to the hidden states: their norms behind the attention's output projection.
#pragma once

#include "press/scorer.h"

namespace curdkv {

enum class ValueNorm { l1, l2 };

// || W_O v || with each query head's part of W_O: [n_tokens, n_head]. Needs ScorerNeeds::output_matrix.
Result<Scores> projected_value_norms(LayerView& layer, ValueNorm norm);

}  // namespace curdkv
