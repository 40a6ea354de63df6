#include "engine/compaction.h"

#include <algorithm>
#include <cstring>

#include "base/tickets.h"
#include "base/try.h"

namespace curdkv {
namespace {

// dst: nothing. A head at a time, K or V.
struct CopyHeads {
  const ggml_tensor *k, *v;
  const std::vector<std::vector<int32_t>>& rows;
  const KvLayer& to;
  Tickets heads = {};

  void operator()(ggml_tensor*, const OpThread& thread) {
    for (int64_t i; (i = heads.draw(2 * std::ssize(rows), thread.nth)) >= 0;) {
      const auto h = static_cast<size_t>(i / 2);
      const ggml_tensor *from = i % 2 == 0 ? k : v, *into = i % 2 == 0 ? to.k : to.v;
      char* at = static_cast<char*>(into->data) + static_cast<size_t>(to.offset[h]) * into->nb[1];
      for (const int32_t row : rows[h]) {
        std::memcpy(at, static_cast<const char*>(from->data) + static_cast<size_t>(row) * from->nb[1],
                    into->nb[1]);
        at += into->nb[1];
      }
    }
  }
};

bool copies_in_memory(const ggml_tensor* from, const ggml_tensor* to) {
  return from->type == to->type && ggml_backend_buffer_is_host(from->buffer) &&
         ggml_backend_buffer_is_host(to->buffer);
}

}  // namespace

Result<void> copy_rows(Compute& compute, ggml_tensor* k, ggml_tensor* v,
                       const std::vector<std::vector<int32_t>>& rows, const KvLayer& to,
                       const KeyShift* shift) {
  constexpr int64_t kSlice = 4096;  // rows at a time: each goes through F32
  std::vector<std::pair<ggml_tensor*, std::vector<int32_t>>> inputs;
  CURDKV_TRY(ggml_context * ctx, compute.begin());
  if (shift == nullptr && copies_in_memory(k, to.k) && copies_in_memory(v, to.v)) {
    ggml_build_forward_expand(compute.graph(),
                              compute.custom<CopyHeads>(GGML_TYPE_F32, {1, 1, 1, 1}, {}, 0, k, v, rows, to));
    CURDKV_CHECK(compute.allocate());
    return compute.run();
  }
  for (size_t h = 0; h < rows.size(); ++h) {
    const auto n_rows = static_cast<int64_t>(rows[h].size());
    for (int64_t first = 0; first < n_rows; first += kSlice) {
      const int64_t n = std::min(kSlice, n_rows - first);
      const auto input = [&](const std::vector<int32_t>& all) {
        ggml_tensor* t = ggml_new_tensor_1d(ctx, GGML_TYPE_I32, n);
        ggml_set_input(t);
        inputs.emplace_back(t, std::vector<int32_t>(all.begin() + first, all.begin() + first + n));
        return t;
      };
      ggml_tensor* wanted = input(rows[h]);
      const auto copy = [&](ggml_tensor* taken, ggml_tensor* into) {
        ggml_build_forward_expand(compute.graph(),
                                  ggml_cpy(ctx, taken, view_rows(ctx, into, to.offset[h] + first, n)));
      };
      ggml_tensor* keys = ggml_get_rows(ctx, k, wanted);
      copy(shift != nullptr ? shift->turn(ctx, keys, input(shift->by[h])) : keys, to.k);
      copy(ggml_get_rows(ctx, v, wanted), to.v);
    }
  }
  CURDKV_CHECK(compute.allocate());
  for (const auto& [tensor, data] : inputs) Compute::set(tensor, data);
  return compute.run();
}

}  // namespace curdkv
