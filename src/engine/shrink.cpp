#include "engine/shrink.h"

#include <algorithm>

#include "base/try.h"
#include "engine/decoder.h"
#include "engine/layer_scoring.h"

namespace curdkv {

ShrinkJob::ShrinkJob(Executor::Impl& executor, SequenceState& sequence, const Press& press, int64_t budget)
    : Impl(executor, nullptr), sequence_(sequence), press_(press), budget_(budget) {
  if (press.bounds_positions()) n_back_ = std::max<int64_t>(0, sequence.next_position - budget);
  reports.resize(1);
  e_.reserve_nodes(sequence.longest_head());
}

Result<bool> ShrinkJob::advance() {
  CURDKV_TRY(KvLayer layer, shrink_layer());
  block_->layers.push_back(std::move(layer));
  if (std::ssize(block_->layers) < e_.m().hp.n_layer) return false;
  CURDKV_CHECK(commit());
  return true;
}

Result<KvLayer> ShrinkJob::shrink_layer() {
  const auto il = std::ssize(block_->layers);
  KvLayer copied;
  CURDKV_TRY(const KvLayer* from, sequence_.cache.in_one_piece(il, copied));
  std::vector<std::vector<int32_t>> rows, shift(from->length.size());
  std::vector<int64_t> lengths;
  std::vector<RowPositions> positions;
  for (size_t h = 0; h < from->length.size(); ++h) {
    HeldRows held(*e_.compute, e_.layer_model(il), *from, static_cast<int64_t>(h), sequence_.recent);
    CURDKV_TRY(rows.emplace_back(), select_rows(held, press_, budget_));
    lengths.push_back(std::ssize(rows[h]));
    // Keys are turned back with their rows, the sinks to where a sequence begins, so that positions are those
    // within the cache and the latest tokens' distances stay what they were.
    std::vector<int32_t> where;
    const int64_t n_sinks = held.n_below(press_.scorer()->n_sinks());
    for (int64_t i = 0; i < lengths[h]; ++i) {
      int32_t& r = rows[h][static_cast<size_t>(i)];
      const int32_t position = held.positions[static_cast<size_t>(r)];
      r += static_cast<int32_t>(from->offset[h]);
      if (n_back_ > 0) {
        const int64_t to = i < n_sinks ? i : position - n_back_;
        shift[h].push_back(static_cast<int32_t>(to - position));
      }
      where.push_back(position + (n_back_ > 0 ? shift[h].back() : 0));
    }
    positions.emplace_back(where);
  }
  CURDKV_TRY(KvLayer to, KvLayer::allocate(e_.shapes[static_cast<size_t>(il)], e_.device(il), il, lengths));
  to.positions = std::move(positions);
  const KeyShift turn = {shift, [&](ggml_context* ctx, ggml_tensor* x, ggml_tensor* by) {
                           x = ggml_reshape_3d(ctx, x, x->ne[0], 1, x->ne[1]);
                           x = rotate_keeping_length(ctx, e_.m().hp.rope, e_.m().weights.rope_freqs, x, by,
                                                     1);
                           return ggml_reshape_2d(ctx, x, x->ne[0], x->ne[2]);
                         }};
  if (to.k != nullptr)
    CURDKV_CHECK(copy_rows(*e_.compute, from->k, from->v, rows, to, n_back_ > 0 ? &turn : nullptr));
  return to;
}

Result<void> ShrinkJob::commit() {
  CURDKV_CHECK(sequence_.cache.check());
  SequenceState shrunk = sequence_;
  shrunk.cache.clear();
  CURDKV_CHECK(shrunk.cache.add(block_));
  shrunk.next_position -= n_back_;
  if (n_back_ > 0) shrunk.recent.clear();  // their positions are others now
  ++shrunk.n_compressed;
  std::swap(sequence_, shrunk);
  return {};
}

}  // namespace curdkv
