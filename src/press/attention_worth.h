// What rows are worth by attention: ByteShare's measure.
#pragma once

#include "press/scorer.h"

namespace curdkv {

// sqrt(mean over the reference queries of their weight on a token, squared) times the norm of its value:
// [n_tokens, n_head_kv].
Result<Scores> attention_worth(LayerView& layer, const ReferenceQueries& queries);

}  // namespace curdkv
