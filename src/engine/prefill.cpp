#include "engine/prefill.h"

#include <algorithm>

#include "base/stopwatch.h"
#include "base/try.h"
#include "engine/compaction.h"
#include "engine/decoder.h"
#include "engine/layer_observer.h"
#include "engine/number_check.h"

namespace curdkv {
namespace {

constexpr int64_t kFewTokens = 128;  // that unpacking a layer's weights would not pay for

}  // namespace

Prefill::Prefill(Executor::Impl& executor, std::span<const PrefillInto> into, std::span<const Token> tokens,
                 const std::vector<Repeat>& repeats, const ReadOptions& options)
    : e_(executor),
      into_(into),
      tokens_(tokens),
      options_(options),
      n_tokens_(static_cast<int64_t>(tokens.size())),
      // Padding tokens come last, so nothing real sees them; every chunk is then made of whole query tiles
      // and takes the same kernels, whatever the chunk size: the same rounding, the same kept tokens.
      n_padded_(round_up(n_tokens_, kTileTokens)),
      n_chunk_(std::min(round_up(e_.params.n_batch, kTileTokens), n_padded_)),
      products_(
          *e_.compute, e_.m(),
          n_tokens_ < kFewTokens ? std::span<const std::unique_ptr<ProductKernel>>() : e_.product_kernels) {
  for (const PrefillInto& i : into) {
    if (!i.press->is_none()) needs_ = needs_ | i.press->scorer()->needs();
  }
  if (options.observer != nullptr) needs_ = needs_ | options.observer->needs();
  reports_.resize(into.size());
  n_rows_ = n_padded_;
  if (needs_.reconstruction) {
    second_.emplace(e_, repeats, n_tokens_, n_chunk_);
    n_rows_ = std::max(n_padded_, n_tokens_ + second_->n_rows());
  }
}

Result<std::vector<ReadReport>> Prefill::run() {
  const Stopwatch all;
  e_.reserve_nodes(n_rows_);
  CURDKV_TRY(first_,
             HiddenStates::start(e_, tokens_, n_padded_, n_chunk_, 0, "the hidden states of the context"));
  CURDKV_TRY(attention_, ScratchAttention::create(e_, n_rows_, n_chunk_));
  if (second_) CURDKV_CHECK(second_->start());
  for (const PrefillInto& i : into_) {
    i.sequence->kept.clear();
    blocks_.push_back(std::make_shared<KvBlock>());
  }
  std::vector<LayerKv> waiting;  // compress_at_end only
  const int64_t n_layer = e_.m().hp.n_layer;
  LayerKv kv;
  for (int64_t il = 0; il < n_layer; ++il) {
    const bool same_device = il > 0 && e_.device(il) == e_.device(il - 1);
    if (kv.k == nullptr || !same_device) {
      kv = {};
      CURDKV_TRY(kv, allocate_kv(il));
    }
    CURDKV_CHECK(run_layer(il, kv));
    if (options_.compress_at_end) {
      waiting.push_back(std::move(kv));
      kv = {};
    } else {
      CURDKV_CHECK(compress(il, kv));
    }
  }
  for (size_t il = 0; il < waiting.size(); ++il) {
    size_t rest = 0;
    for (const LayerKv& w : waiting) rest += w.n_bytes();
    CURDKV_CHECK(compress(static_cast<int64_t>(il), waiting[il]));
    note_peak(rest);
    waiting[il] = {};
  }
  kv = {};
  CURDKV_CHECK(read_logits());
  for (size_t i = 0; i < into_.size(); ++i) {
    SequenceState& to = *into_[i].sequence;
    if (into_[i].press->is_none()) to.kept.clear();
    to.cache.hold(std::move(blocks_[i]));
    to.logits = logits_;
    to.n_tokens = to.next_position = reports_[i].n_tokens = n_tokens_;
    reports_[i].prefill_ms = all.ms() - compress_ms_ + reports_[i].compress_ms;
  }
  return reports_;
}

void Prefill::note_peak(size_t kv_bytes) {
  const size_t hidden = first_->n_bytes() + (second_ ? second_->n_bytes() : 0);
  for (const auto& block : blocks_) kv_bytes += block->n_bytes();
  for (ReadReport& r : reports_) {
    r.hidden_bytes = hidden;
    r.kv_bytes_peak = std::max(r.kv_bytes_peak, kv_bytes + hidden);
  }
}

Result<LayerKv> Prefill::allocate_kv(int64_t il) const {
  const HParams& hp = e_.m().hp;
  LayerKv kv;
  kv.context = make_ggml_context(5);
  // ggml's tiled attention wants keys and values of one type.
  const CacheShape& shape = e_.shape;
  const bool any_f32 = shape.type_k == GGML_TYPE_F32 || shape.type_v == GGML_TYPE_F32;
  const ggml_type t = any_f32 ? GGML_TYPE_F32 : GGML_TYPE_F16;
  kv.k = ggml_new_tensor_3d(kv.context.get(), t, hp.d_head_k, hp.n_head_kv, n_rows_);
  kv.v = ggml_new_tensor_3d(kv.context.get(), t, hp.d_head_v, hp.n_head_kv, n_rows_);
  const auto rows = [&](ggml_tensor* x) {
    return ggml_reshape_2d(kv.context.get(), x, x->ne[0], x->ne[1] * x->ne[2]);
  };
  kv.k_rows = rows(kv.k);
  kv.v_rows = rows(kv.v);
  if (needs_.n_queries > 0) {
    kv.q_first = std::max<int64_t>(0, n_tokens_ - needs_.n_queries);
    kv.q = ggml_new_tensor_3d(kv.context.get(), t, hp.d_head_k, hp.n_head, n_padded_ - kv.q_first);
  }
  CURDKV_TRY(kv.memory,
             TensorMemory::allocate(kv.context.get(), e_.device(il), "one layer's keys and values"));
  return kv;
}

// il layers are done and so many tokens of the next, of both readings.
void Prefill::note_progress(int64_t il, int64_t n_done) const {
  if (!options_.progress) return;
  const int64_t per_layer = n_tokens_ + (second_ ? second_->n_repeated() : 0);
  options_.progress(il * per_layer + n_done, e_.m().hp.n_layer * per_layer);
}

Result<void> Prefill::run_layer(int64_t il, LayerKv& kv) {
  CURDKV_CHECK(first_->move_to_layer(il));
  CURDKV_CHECK(products_.load(il));
  for (int64_t first = 0; first < n_padded_; first += n_chunk_) {
    const int64_t n = std::min(n_chunk_, n_padded_ - first);
    CURDKV_CHECK(run_chunk(il, kv, first, n));
    note_progress(il, std::min(first + n, n_tokens_));
  }
  return {};
}

Result<void> Prefill::run_chunk(int64_t il, LayerKv& kv, int64_t first, int64_t n) {
  CURDKV_TRY(ggml_context * ctx, e_.compute->begin());
  const Attend attend = [&](const Projections& p) {
    if (kv.q != nullptr) store_queries(ctx, kv, p.q, first);
    return attention_->attend(il, kv, p, first);
  };
  ggml_tensor* x = first_->hidden(ctx, first, n);
  // Of the last layer only keys and values are wanted, and the hidden states that become logits.
  const bool last_layer = il + 1 == e_.m().hp.n_layer, holds_last_token = first + n == n_padded_;
  NumberCheck check(n_tokens_ - 1 - first);
  const bool checked = holds_last_token && e_.on_cpu(il);
  ggml_tensor* out = build_layer(
      ctx, e_.m(), il, x, first_->positions(ctx, first, n), nullptr, attend,
      checked ? check.watch(ctx, e_.compute->graph(), products_.multiply_by()) : products_.multiply_by());
  if (!last_layer || holds_last_token || options_.logits) {
    ggml_build_forward_expand(e_.compute->graph(), ggml_cpy(ctx, out, first_->hidden(ctx, first, n)));
  }
  CURDKV_CHECK(e_.compute->allocate());
  CURDKV_CHECK(e_.compute->run());
  return check.failed() ? Result<void>(not_numbers()) : Result<void>();
}

// Keeps what a scorer asked for of a chunk's queries [d_head_k, n_head, n], whose first token is `first`.
void Prefill::store_queries(ggml_context* ctx, const LayerKv& kv, ggml_tensor* q, int64_t first) {
  const int64_t begin = std::max(first, kv.q_first), n = first + q->ne[2] - begin;
  if (n <= 0) return;
  ggml_tensor* from = ggml_view_3d(ctx, q, q->ne[0], q->ne[1], n, q->nb[1], q->nb[2],
                                   static_cast<size_t>(begin - first) * q->nb[2]);
  ggml_tensor* to = ggml_view_3d(ctx, kv.q, q->ne[0], q->ne[1], n, kv.q->nb[1], kv.q->nb[2],
                                 static_cast<size_t>(begin - kv.q_first) * kv.q->nb[2]);
  ggml_build_forward_expand(e_.compute->graph(), ggml_cpy(ctx, from, to));
}

Result<void> Prefill::compress(int64_t il, const LayerKv& kv) {
  const Stopwatch watch;
  PrefilledLayer layer(*e_.compute, e_.layer_model(il), kv, n_tokens_);
  if (second_) {
    CURDKV_TRY(layer.repeated, second_->run_layer(il, kv, *attention_, products_, [&](int64_t n_done) {
      note_progress(il, n_tokens_ + n_done);
    }));
  }
  const double second_ms = second_ ? watch.ms() : 0;
  compress_ms_ += second_ms;
  if (options_.observer != nullptr) CURDKV_CHECK(options_.observer->observe(il, layer));
  LayerScores scores(layer);
  for (size_t i = 0; i < into_.size(); ++i) {
    const Stopwatch own;
    layer.seed = into_[i].press->seed();
    CURDKV_CHECK(compress_into(i, il, kv, scores));
    compress_ms_ += own.ms();
    reports_[i].compress_ms += own.ms();
    // As if the press were alone.
    if (!into_[i].press->is_none()) reports_[i].compress_ms += scores.shared_ms();
    if (into_[i].press->needs_repeats()) reports_[i].compress_ms += second_ms;
  }
  note_peak(kv.n_bytes());
  return {};
}

Result<void> Prefill::compress_into(size_t index, int64_t il, const LayerKv& kv, LayerScores& scores) {
  SequenceState& to = *into_[index].sequence;
  const Press& press = *into_[index].press;
  CURDKV_TRY(KeptTokens kept, select_tokens(scores, press, options_.n_question, il, e_.m().hp.n_layer));
  // Token t of head h is row t n_head_kv + h of the scratch.
  std::vector<int64_t> lengths;
  std::vector<std::vector<int32_t>> rows = kept;
  for (size_t h = 0; h < kept.size(); ++h) {
    lengths.push_back(static_cast<int64_t>(kept[h].size()));
    for (int32_t& t : rows[h]) t = static_cast<int32_t>(t * std::ssize(kept) + static_cast<int64_t>(h));
  }
  CURDKV_TRY(KvLayer layer, KvLayer::allocate(to.cache.shape(), e_.device(il), il, lengths));
  CURDKV_CHECK(copy_rows(*e_.compute, kv.k_rows, kv.v_rows, rows, layer));
  auto position = layer.position.begin();
  for (const std::vector<int32_t>& head : kept) position = std::copy(head.begin(), head.end(), position);
  blocks_[index]->layers.push_back(std::move(layer));
  to.kept.push_back(std::move(kept));
  return {};
}

Result<void> Prefill::read_logits() {
  const int64_t begin = options_.logits ? 0 : n_tokens_ - 1;
  for (int64_t first = begin; first < n_tokens_; first += kTileTokens) {
    const int64_t n = std::min(kTileTokens, n_tokens_ - first);
    CURDKV_TRY(ggml_context * ctx, e_.compute->begin());
    const LogitsNodes out = build_logits(ctx, e_.m(), first_->hidden(ctx, first, n));
    ggml_build_forward_expand(e_.compute->graph(), out.logits);
    CURDKV_CHECK(e_.compute->allocate());
    CURDKV_CHECK(e_.compute->run());
    for (int64_t i = 0; i < n; ++i) {
      CURDKV_CHECK(curdkv::read_logits(out, i, logits_));
      if (options_.logits) options_.logits(first + i, logits_);
    }
  }
  return {};
}

}  // namespace curdkv
