// Moving the rows that are kept to where they stay.
#pragma once

#include <functional>

#include "cache/kv_block.h"
#include "compute/compute.h"

namespace curdkv {

// Keys that change their positions on their way: by how much, for each row that a head keeps, and what turns
// x, F32 [d_head_k, n], by I32 [n].
struct KeyShift {
  const std::vector<std::vector<int32_t>>& by;
  std::function<ggml_tensor*(ggml_context*, ggml_tensor* x, ggml_tensor* by)> turn;
};

// Copies rows into layer `to`, whose head h has room for them from its offset on. k and v: the source, [d,
// rows]; rows[h]: the source rows of head h in order.
Result<void> copy_rows(Compute& compute, ggml_tensor* k, ggml_tensor* v,
                       const std::vector<std::vector<int32_t>>& rows, const KvLayer& to,
                       const KeyShift* shift = nullptr);

}  // namespace curdkv
