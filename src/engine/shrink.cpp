// Evicting from the cache after the context was read: what bounds its size while tokens are generated.
#include <algorithm>

#include "base/try.h"
#include "engine/compaction.h"
#include "engine/decoder.h"
#include "engine/executor_impl.h"
#include "engine/layer_scoring.h"

namespace curdkv {

Result<KvLayer> Executor::Impl::shrink_layer(const SequenceState& sequence, int64_t il, const Press& press,
                                             int64_t budget, const ChangeKeys& change, int64_t n_back) {
  KvLayer copied;
  CURDKV_TRY(const KvLayer* from, sequence.cache.in_one_piece(il, copied));
  std::vector<std::vector<int32_t>> rows;
  std::vector<int64_t> lengths;
  std::vector<int32_t> positions;
  for (size_t h = 0; h < from->length.size(); ++h) {
    HeldRows held(*compute, layer_model(il), *from, static_cast<int64_t>(h));
    held.seed = press.seed();
    CURDKV_TRY(rows.emplace_back(), select_rows(held, press, budget));
    lengths.push_back(static_cast<int64_t>(rows[h].size()));
    int64_t n_sinks = n_back > 0 ? press.scorer()->n_sinks() : lengths[h];
    for (int32_t& r : rows[h]) {
      r += static_cast<int32_t>(from->offset[h]);
      const int32_t back = n_sinks-- > 0 ? 0 : static_cast<int32_t>(n_back);
      positions.push_back(from->position[static_cast<size_t>(r)] - back);
    }
  }
  CURDKV_TRY(KvLayer to, KvLayer::allocate(shapes[static_cast<size_t>(il)], device(il), il, lengths));
  to.position = std::move(positions);
  if (to.k != nullptr) CURDKV_CHECK(copy_rows(*compute, from->k, from->v, rows, to, change));
  return to;
}

Result<void> Executor::Impl::compress(SequenceState& sequence, const Press& press, int64_t budget) {
  CURDKV_CHECK(press.check_decode_budget(budget));
  // Every key but the sinks' is turned back by as many positions, so distances stay what they were.
  const int64_t n_sinks = press.scorer()->n_sinks();
  const int64_t n_back = press.bounds_positions() ? std::max<int64_t>(0, sequence.next_position - budget) : 0;
  const ChangeKeys turn_back = [&](ggml_context* ctx, ggml_tensor* x, int64_t first) {
    const int64_t n = x->ne[1];
    ggml_tensor* row = ggml_arange(ctx, static_cast<float>(first), static_cast<float>(first + n), 1.0f);
    ggml_tensor* behind = ggml_step(ctx, ggml_scale_bias(ctx, row, 1.0f, 0.5f - static_cast<float>(n_sinks)));
    ggml_tensor* shift = ggml_cast(ctx, ggml_scale(ctx, behind, -static_cast<float>(n_back)), GGML_TYPE_I32);
    x = ggml_reshape_3d(ctx, x, x->ne[0], 1, n);
    x = rotate_keeping_length(ctx, m().hp.rope, m().weights.rope_freqs, x, shift, 1);
    return ggml_reshape_2d(ctx, x, x->ne[0], n);
  };
  reserve_nodes(sequence.longest_head());
  auto block = std::make_shared<KvBlock>();
  for (int64_t il = 0; il < m().hp.n_layer; ++il) {
    CURDKV_TRY(block->layers.emplace_back(),
               shrink_layer(sequence, il, press, budget, n_back > 0 ? turn_back : ChangeKeys(), n_back));
  }
  sequence.cache.hold(std::move(block));
  sequence.next_position -= n_back;
  ++sequence.n_compressed;
  return {};
}

}  // namespace curdkv
