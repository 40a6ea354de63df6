// What rows are worth by attention from reference queries.
#pragma once

#include <vector>

#include "press/allocation.h"
#include "press/scorer.h"

namespace curdkv {

Result<ReferenceWorth> attention_worth(LayerView& layer, const ReferenceQueries& queries);

// What a head's rows are worth where bytes are shared out: [n_tokens].
std::vector<float> worth_of_head(const ReferenceWorth& worth, int64_t head, const ByteShare& share);

}  // namespace curdkv
