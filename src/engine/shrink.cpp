// Evicting from the cache after the context was read: what bounds its size while tokens are generated.
#include <algorithm>

#include "base/try.h"
#include "engine/compaction.h"
#include "engine/decoder.h"
#include "engine/layer_scoring.h"
#include "engine/session_impl.h"

namespace curdkv {

Result<void> Session::Impl::shrink_layer(int64_t il, const Press& press, int64_t budget, int64_t room,
                                         const ChangeKeys& change) {
  const RaggedLayer& from = cache.layer(il);
  std::vector<std::vector<int32_t>> rows;
  std::vector<int64_t> lengths, capacity;
  for (size_t h = 0; h < from.length.size(); ++h) {
    HeldRows held(*compute, layer_model(il), from, static_cast<int64_t>(h));
    held.seed = press.seed();
    CURDKV_TRY(rows.emplace_back(), select_rows(held, press, budget));
    lengths.push_back(static_cast<int64_t>(rows[h].size()));
    capacity.push_back(lengths[h] + room);
    for (int32_t& r : rows[h]) r += static_cast<int32_t>(from.offset[h]);
  }
  CURDKV_TRY(RaggedLayer to, cache.allocate_layer(il, lengths, capacity));
  CURDKV_CHECK(copy_rows(*compute, from.k, from.v, rows, to, change));
  cache.replace(il, std::move(to));
  return {};
}

Result<void> Session::Impl::compress(const Press& press, int64_t budget, int64_t room) {
  CURDKV_CHECK(press.check_decode_budget(budget));
  // Every key but the sinks' is turned back by as many positions, so distances stay what they were.
  const int64_t n_sinks = press.scorer()->n_sinks();
  const int64_t n_back = press.bounds_positions() ? std::max<int64_t>(0, next_position - budget) : 0;
  const ChangeKeys turn_back = [&](ggml_context* ctx, ggml_tensor* x, int64_t first) {
    const int64_t n = x->ne[1];
    ggml_tensor* row = ggml_arange(ctx, static_cast<float>(first), static_cast<float>(first + n), 1.0f);
    ggml_tensor* behind = ggml_step(ctx, ggml_scale_bias(ctx, row, 1.0f, 0.5f - static_cast<float>(n_sinks)));
    ggml_tensor* shift = ggml_cast(ctx, ggml_scale(ctx, behind, -static_cast<float>(n_back)), GGML_TYPE_I32);
    x = ggml_reshape_3d(ctx, x, x->ne[0], 1, n);
    x = rotate_keeping_length(ctx, m().hp.rope, m().weights.rope_freqs, x, shift, 1);
    return ggml_reshape_2d(ctx, x, x->ne[0], n);
  };
  int64_t longest = 0;
  for (int64_t il = 0; il < m().hp.n_layer; ++il) longest = std::max(longest, cache.layer(il).longest());
  reserve_nodes(longest);
  for (int64_t il = 0; il < m().hp.n_layer; ++il) {
    CURDKV_CHECK(shrink_layer(il, press, budget, room, n_back > 0 ? turn_back : ChangeKeys()));
  }
  next_position -= n_back;
  ++n_compressed;
  return {};
}

}  // namespace curdkv
