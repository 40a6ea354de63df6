// Moving the rows that are kept to where they stay.
#pragma once

#include <functional>

#include "cache/kv_block.h"
#include "compute/compute.h"

namespace curdkv {

// Changes keys on their way: x is F32 [d_head_k, n] of rows [first, first + n) among those a head keeps.
using ChangeKeys = std::function<ggml_tensor*(ggml_context*, ggml_tensor* x, int64_t first)>;

// Copies rows into layer `to`, whose head h has room for them from its offset on. k and v: the source, [d,
// rows]; rows[h]: the source rows of head h in order.
Result<void> copy_rows(Compute& compute, ggml_tensor* k, ggml_tensor* v,
                       const std::vector<std::vector<int32_t>>& rows, const KvLayer& to,
                       const ChangeKeys& change = {});

}  // namespace curdkv
