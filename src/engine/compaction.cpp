#include "engine/compaction.h"

#include <algorithm>

#include "base/try.h"

namespace curdkv {

Result<void> copy_rows(Compute& compute, ggml_tensor* k, ggml_tensor* v,
                       const std::vector<std::vector<int32_t>>& rows, const RaggedLayer& to,
                       const ChangeKeys& change) {
  constexpr int64_t kSlice = 4096;  // rows at a time: each goes through F32
  std::vector<std::pair<ggml_tensor*, std::vector<int32_t>>> inputs;
  ggml_context* ctx = compute.begin();
  for (size_t h = 0; h < rows.size(); ++h) {
    const auto n_rows = static_cast<int64_t>(rows[h].size());
    for (int64_t first = 0; first < n_rows; first += kSlice) {
      const int64_t n = std::min(kSlice, n_rows - first);
      ggml_tensor* wanted = ggml_new_tensor_1d(ctx, GGML_TYPE_I32, n);
      ggml_set_input(wanted);
      inputs.emplace_back(wanted, std::vector<int32_t>(rows[h].begin() + first, rows[h].begin() + first + n));
      const auto copy = [&](ggml_tensor* taken, ggml_tensor* into) {
        ggml_build_forward_expand(compute.graph(),
                                  ggml_cpy(ctx, taken, view_rows(ctx, into, to.offset[h] + first, n)));
      };
      ggml_tensor* keys = ggml_get_rows(ctx, k, wanted);
      copy(change ? change(ctx, keys, first) : keys, to.k);
      copy(ggml_get_rows(ctx, v, wanted), to.v);
    }
  }
  CURDKV_CHECK(compute.allocate());
  for (const auto& [tensor, data] : inputs) Compute::set(tensor, data);
  return compute.run();
}

}  // namespace curdkv
