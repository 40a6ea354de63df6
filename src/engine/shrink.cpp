// Evicting from the cache after the context was read: what bounds its size while tokens are generated.
#include <algorithm>

#include "base/format.h"
#include "base/try.h"
#include "engine/compaction.h"
#include "engine/decoder.h"
#include "engine/layer_scoring.h"
#include "engine/session_impl.h"

namespace curdkv {
namespace {

// The rows every head evicts when all evict the same ones, in one piece; else nothing.
struct Gap {
  int64_t first = 0, n = 0;
};

Gap common_gap(const RaggedCache& cache, int64_t n_sinks, int64_t budget) {
  const int64_t length = cache.layer(0).length[0];
  for (int64_t il = 0; il < cache.shape().n_layer; ++il) {
    for (int64_t l : cache.layer(il).length) {
      if (l != length) return {};
    }
  }
  return length > budget && budget >= n_sinks ? Gap{n_sinks, length - budget} : Gap{};
}

}  // namespace

Result<void> Session::Impl::shrink_layer(int64_t il, const Press& press, int64_t budget, int64_t room,
                                         const ChangeKeys& change) {
  const RaggedLayer& from = cache.layer(il);
  std::vector<std::vector<int32_t>> rows;
  std::vector<int64_t> lengths, capacity;
  for (size_t h = 0; h < from.length.size(); ++h) {
    HeldRows held(*compute, layer_model(il, press.seed()), from, static_cast<int64_t>(h));
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
  if (press.is_none()) return Error{ErrorCode::bad_argument, "press 'none' cannot bound the cache"};
  if (!can_score_held_rows(press.scorer()->needs())) {
    return Error{
        ErrorCode::bad_argument,
        "press '" + press.name() +
            "' cannot bound the cache while generating: it scores by queries, which are gone by then"};
  }
  if (budget < press.scorer()->n_sinks() + 1) {
    return Error{ErrorCode::bad_argument,
                 format("a cache of %lld tokens per head has no room for the %lld sinks of '%s'",
                        (long long)budget, (long long)press.scorer()->n_sinks(), press.name().c_str())};
  }
  const int64_t n_sinks = press.scorer()->n_sinks();
  const Gap gap = press.scorer()->evicts_one_gap() ? common_gap(cache, n_sinks, budget) : Gap{};
  // Keys behind the gap are turned back by as many positions as it is long.
  const ChangeKeys close_gap = [&](ggml_context* ctx, ggml_tensor* x, int64_t first) {
    const int64_t n = x->ne[1];
    ggml_tensor* shift = ggml_arange(ctx, static_cast<float>(first), static_cast<float>(first + n), 1.0f);
    // 0 for sinks, 1 behind them
    shift = ggml_step(ctx, ggml_scale_bias(ctx, shift, 1.0f, 0.5f - static_cast<float>(gap.first)));
    shift = ggml_cast(ctx, ggml_scale(ctx, shift, -static_cast<float>(gap.n)), GGML_TYPE_I32);
    x = ggml_reshape_3d(ctx, x, x->ne[0], 1, n);
    x = rotate_keeping_length(ctx, m().hp.rope, m().weights.rope_freqs, x, shift, 1);
    return ggml_reshape_2d(ctx, x, x->ne[0], n);
  };
  for (int64_t il = 0; il < m().hp.n_layer; ++il) {
    CURDKV_CHECK(shrink_layer(il, press, budget, room, gap.n > 0 ? close_gap : ChangeKeys()));
  }
  next_position -= gap.n;
  ++n_compressed;
  decode.epoch = 0;
  return {};
}

}  // namespace curdkv
