#include "engine/read.h"

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

bool same_length_everywhere(const SequenceCache& cache, int64_t length) {
  for (const std::vector<int64_t>& layer : cache.lengths()) {
    for (const int64_t n : layer) {
      if (n != length) return false;
    }
  }
  return true;
}

}  // namespace

ReadJob::ReadJob(Executor::Impl& executor, std::vector<ReadInto> into, std::span<const Token> tokens,
                 std::vector<Repeat> repeats, const ReadOptions& options)
    : Impl(executor, options.stop),
      into_(std::move(into)),
      tokens_(tokens.begin(), tokens.end()),
      repeats_(std::move(repeats)),
      options_(options),
      n_tokens_(std::ssize(tokens_)),
      products_(
          *e_.compute, e_.m(),
          n_tokens_ < kFewTokens ? std::span<const std::unique_ptr<ProductKernel>>() : e_.product_kernels) {
  for (const ReadInto& i : into_) {
    if (!i.press.is_none()) needs_ = needs_ | i.press.scorer()->needs();
    if (i.press.measures_keys()) needs_.n_queries = ScorerNeeds::kAll;
  }
  if (options.observer != nullptr) needs_ = needs_ | options.observer->needs();
  needs_.n_queries = std::max(needs_.n_queries, options.n_recent_queries);
  recent_ = RecentQueries(options.n_recent_queries, e_.m().hp.layers);
  reports.resize(into_.size());

  // Padding tokens come first and last, so nothing real sees them; every chunk is then made of whole query
  // tiles and takes the same kernels, whatever the chunk size: the same rounding, the same kept tokens.
  const SequenceState& sequence = *into_[0].sequence;
  first_position_ = sequence.next_position;
  n_held_ = sequence.longest_head();
  n_front_ = same_length_everywhere(sequence.cache, n_held_) ? n_held_ % kTileTokens : 0;
  n_padded_ = round_up(n_front_ + n_tokens_, kTileTokens);
  n_chunk_ = std::min(round_up(e_.params.n_batch, kTileTokens), n_padded_);
  n_rows_ = n_held_ - n_front_ + n_padded_;
  if (needs_.reconstruction) {
    second_.emplace(e_, repeats_, n_held_, n_tokens_, first_position_, n_chunk_, needs_.per_input);
    n_rows_ = std::max(n_rows_, n_held_ + n_tokens_ + second_->n_rows());
  }
}

Result<bool> ReadJob::advance() {
  const Stopwatch watch;
  auto finished = next();
  all_ms_ += watch.ms();
  if (finished && *finished) {
    for (ReadReport& r : reports) r.prefill_ms = all_ms_ - compress_ms_ + r.compress_ms;
  }
  return finished;
}

Result<bool> ReadJob::next() {
  if (!hidden_) {
    CURDKV_CHECK(start());
  } else if (il_ == e_.m().hp.n_layer) {
    CURDKV_CHECK(commit());
    return true;
  } else if (at_ < n_padded_) {
    if (at_ == 0) CURDKV_CHECK(start_layer());
    const int64_t n = std::min(n_chunk_, n_padded_ - at_);
    CURDKV_CHECK(run_chunk(n));
    at_ += n;
    note_progress(il_, std::min(at_ - n_front_, n_tokens_));
  } else {
    CURDKV_CHECK(end_layer());
    ++il_;
    at_ = 0;
  }
  return false;
}

Result<void> ReadJob::start() {
  e_.reserve_nodes(n_rows_);
  std::vector<Token> ids(static_cast<size_t>(n_front_), 0);
  ids.insert(ids.end(), tokens_.begin(), tokens_.end());
  CURDKV_TRY(attention_, ScratchAttention::create(e_, n_rows_, n_chunk_));
  if (second_) CURDKV_CHECK(second_->start());
  for (const ReadInto& i : into_) {
    blocks_.push_back(std::make_shared<KvBlock>());
    packed_.emplace_back(i.press, e_.shapes, n_tokens_, options_.n_question, first_position_);
  }
  CURDKV_TRY(hidden_, HiddenStates::start(e_, ids, n_padded_, n_chunk_, first_position_ - n_front_,
                                          "the hidden states of the context"));
  return {};
}

Result<void> ReadJob::start_layer() {
  const HParams& hp = e_.m().hp;
  if (kv_.k == nullptr || e_.device(il_) != e_.device(il_ - 1) ||
      !hp.layer(il_).same_heads(hp.layer(il_ - 1))) {
    kv_ = {};
    CURDKV_TRY(kv_, allocate_kv());
  }
  CURDKV_CHECK(hidden_->move_to_layer(il_));
  CURDKV_CHECK(products_.load(il_));
  return n_held_ > 0 ? copy_held() : Result<void>();
}

Result<void> ReadJob::end_layer() {
  if (!options_.compress_at_end) return compress(il_, kv_);
  waiting_.push_back(std::move(kv_));
  kv_ = {};
  return {};
}

// Nothing changes for the sequences until all that may fail is done.
Result<void> ReadJob::commit() {
  for (size_t il = 0; il < waiting_.size(); ++il) {
    size_t rest = 0;
    for (const LayerKv& w : waiting_) rest += w.n_bytes();
    CURDKV_CHECK(compress(static_cast<int64_t>(il), waiting_[il]));
    note_peak(rest);
    waiting_[il] = {};
  }
  kv_ = {};
  for (size_t i = 0; i < into_.size(); ++i) {
    const Stopwatch watch;
    if (into_[i].press.packs()) CURDKV_CHECK(packed_[i].finish(*e_.compute, *blocks_[i]));
    note_compression(i, watch.ms());
  }
  CURDKV_CHECK(read_logits());
  for (const ReadInto& into : into_) CURDKV_CHECK(into.sequence->cache.check());
  recent_.append(std::min(n_tokens_, recent_.capacity()),
                 first_position_ + std::max<int64_t>(0, n_tokens_ - recent_.capacity()));
  std::vector<SequenceState> read;
  for (size_t i = 0; i < into_.size(); ++i) {
    SequenceState& to = read.emplace_back(*into_[i].sequence);
    CURDKV_CHECK(to.cache.add(blocks_[i]));
    to.logits = logits_;
    to.recent = recent_;
    to.n_tokens += n_tokens_;
    to.next_position += n_tokens_;
    ++to.n_compressed;
    reports[i].n_tokens = n_tokens_;
    reports[i].kv_bytes = to.cache.n_bytes();
    reports[i].kv_bytes_full = e_.bytes_uncompressed(to.n_tokens);
  }
  for (size_t i = 0; i < into_.size(); ++i) std::swap(*into_[i].sequence, read[i]);
  return {};
}

void ReadJob::note_peak(size_t kv_bytes) {
  const size_t hidden = hidden_->n_bytes() + (second_ ? second_->n_bytes() : 0);
  for (size_t i = 0; i < into_.size(); ++i)
    kv_bytes += into_[i].sequence->cache.n_bytes() + blocks_[i]->n_bytes() + packed_[i].n_bytes();
  for (ReadReport& r : reports) {
    r.hidden_bytes = hidden;
    r.kv_bytes_peak = std::max(r.kv_bytes_peak, kv_bytes + hidden);
  }
}

Result<LayerKv> ReadJob::allocate_kv() const {
  const LayerShape& of = e_.m().hp.layer(il_);
  LayerKv kv;
  kv.context = make_ggml_context(5);
  // ggml's tiled attention wants keys and values of one type.
  const CacheShape& shape = e_.shapes[static_cast<size_t>(il_)];
  const bool any_f32 = shape.type_k == GGML_TYPE_F32 || shape.type_v == GGML_TYPE_F32;
  const ggml_type t = any_f32 ? GGML_TYPE_F32 : GGML_TYPE_F16;
  kv.k = ggml_new_tensor_3d(kv.context.get(), t, of.d_head_k, of.n_head_kv, n_rows_);
  kv.v = ggml_new_tensor_3d(kv.context.get(), t, of.d_head_v, of.n_head_kv, n_rows_);
  const auto rows = [&](ggml_tensor* x) {
    return ggml_reshape_2d(kv.context.get(), x, x->ne[0], x->ne[1] * x->ne[2]);
  };
  kv.k_rows = rows(kv.k);
  kv.v_rows = rows(kv.v);
  if (needs_.n_queries > 0) {
    kv.q_first = std::max<int64_t>(0, n_tokens_ - needs_.n_queries);
    const int64_t n = n_padded_ - n_front_ - kv.q_first;  // padding included
    kv.q = ggml_new_tensor_3d(kv.context.get(), t, of.d_head_k, of.n_head, n);
  }
  CURDKV_TRY(kv.memory,
             TensorMemory::allocate(kv.context.get(), e_.device(il_), "one layer's keys and values"));
  return kv;
}

// il layers are done and so many tokens of the next, of both readings.
void ReadJob::note_progress(int64_t il, int64_t n_done) const {
  if (!options_.progress) return;
  const int64_t per_layer = n_tokens_ + (second_ ? second_->n_repeated() : 0);
  options_.progress(il * per_layer + n_done, e_.m().hp.n_layer * per_layer);
}

// What the sequence holds of the layer, each head's rows up to row n_held_.
Result<void> ReadJob::copy_held() {
  constexpr int64_t kSlice = 4096;  // rows at a time: quantised ones go through F32
  KvLayer own;
  CURDKV_TRY(const KvLayer* held, into_[0].sequence->cache.in_one_piece(il_, own));
  CURDKV_TRY(ggml_context * ctx, e_.compute->begin());
  kv_.n_held = n_held_;
  kv_.first.clear();
  for (size_t h = 0; h < held->length.size(); ++h) {
    const int64_t n_rows = held->length[h];
    kv_.first.push_back(n_held_ - n_rows);
    for (int64_t at = 0; at < n_rows; at += kSlice) {
      const int64_t n = std::min(kSlice, n_rows - at);
      const auto copy = [&](ggml_tensor* from, ggml_tensor* to) {
        ggml_tensor* rows = view_rows(ctx, from, held->offset[h] + at, n);
        if (ggml_is_quantized(rows->type)) rows = ggml_cast(ctx, rows, GGML_TYPE_F32);
        const size_t first = static_cast<size_t>(kv_.first[h] + at) * to->nb[2] + h * to->nb[1];
        ggml_build_forward_expand(e_.compute->graph(),
                                  ggml_cpy(ctx, rows, ggml_view_2d(ctx, to, to->ne[0], n, to->nb[2], first)));
      };
      copy(held->k, kv_.k);
      copy(held->v, kv_.v);
    }
  }
  CURDKV_CHECK(e_.compute->allocate());
  return e_.compute->run();
}

Result<void> ReadJob::run_chunk(int64_t n) {
  CURDKV_TRY(ggml_context * ctx, e_.compute->begin());
  const Attend attend = [&](const Projections& p) {
    if (kv_.q != nullptr) store_queries(ctx, p.q);
    return attention_->attend(il_, kv_, p, n_held_ - n_front_ + at_, std::max<int64_t>(0, n_front_ - at_));
  };
  ggml_tensor* x = hidden_->hidden(ctx, at_, n);
  // Of the last layer only keys and values are wanted, and the hidden states that become logits.
  const bool last_layer = il_ + 1 == e_.m().hp.n_layer, holds_last_token = at_ + n == n_padded_;
  NumberCheck check(n_front_ + n_tokens_ - 1 - at_);
  const bool checked = holds_last_token && e_.on_cpu(il_);
  const Multiply multiply = products_.multiply_by();
  ProductsBy products(checked ? check.watch(ctx, e_.compute->graph(), multiply) : multiply);
  ggml_tensor* out =
      build_layer(ctx, e_.m(), il_, x, hidden_->positions(ctx, at_, n), nullptr, attend, products);
  if (!last_layer || holds_last_token || options_.logits) {
    ggml_build_forward_expand(e_.compute->graph(), ggml_cpy(ctx, out, hidden_->hidden(ctx, at_, n)));
  }
  CURDKV_CHECK(e_.compute->allocate());
  CURDKV_CHECK(e_.compute->run());
  return check.failed() ? Result<void>(not_numbers()) : Result<void>();
}

// Keeps what a scorer asked for of a chunk's queries [d_head_k, n_head, n].
void ReadJob::store_queries(ggml_context* ctx, ggml_tensor* q) {
  const int64_t kept = n_front_ + kv_.q_first;  // the first hidden state whose query is kept
  const int64_t begin = std::max(at_, kept), n = at_ + q->ne[2] - begin;
  if (n <= 0) return;
  ggml_tensor* from = ggml_view_3d(ctx, q, q->ne[0], q->ne[1], n, q->nb[1], q->nb[2],
                                   static_cast<size_t>(begin - at_) * q->nb[2]);
  ggml_tensor* to = ggml_view_3d(ctx, kv_.q, q->ne[0], q->ne[1], n, kv_.q->nb[1], kv_.q->nb[2],
                                 static_cast<size_t>(begin - kept) * kv_.q->nb[2]);
  ggml_build_forward_expand(e_.compute->graph(), ggml_cpy(ctx, from, to));
}

Result<void> ReadJob::compress(int64_t il, const LayerKv& kv) {
  const Stopwatch watch;
  PrefilledLayer layer(*e_.compute, e_.layer_model(il), kv, n_tokens_, first_position_, &rotations_);
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
    CURDKV_CHECK(compress_into(i, il, kv, scores));
    note_compression(i, own.ms());
    // As if the press were alone.
    if (!into_[i].press.is_none()) reports[i].compress_ms += scores.shared_ms();
    if (into_[i].press.needs_repeats()) reports[i].compress_ms += second_ms;
  }
  note_peak(kv.n_bytes());
  return recent_.capacity() > 0 ? keep_queries(il, kv) : Result<void>();
}

Result<void> ReadJob::keep_queries(int64_t il, const LayerKv& kv) {
  const int64_t n = std::min(n_tokens_, recent_.capacity()), first = n_tokens_ - n - kv.q_first;
  CURDKV_TRY(ggml_context * ctx, e_.compute->begin());
  ggml_tensor* latest = ggml_view_3d(ctx, kv.q, kv.q->ne[0], kv.q->ne[1], n, kv.q->nb[1], kv.q->nb[2],
                                     static_cast<size_t>(first) * kv.q->nb[2]);
  latest = ggml_cast(ctx, latest, GGML_TYPE_F32);
  ggml_set_output(latest);
  ggml_build_forward_expand(e_.compute->graph(), latest);
  CURDKV_CHECK(e_.compute->allocate());
  CURDKV_CHECK(e_.compute->run());
  if (il == 0) recent_.reserve(n);
  ggml_backend_tensor_get(latest, recent_.next(il), 0, ggml_nbytes(latest));
  return {};
}

Result<void> ReadJob::compress_into(size_t index, int64_t il, const LayerKv& kv, LayerScores& scores) {
  const SequenceState& to = *into_[index].sequence;
  const Press& press = into_[index].press;
  if (press.packs()) return packed_[index].add(*e_.compute, kv, scores, *blocks_[index]);
  CURDKV_TRY(const KeptTokens kept, select_tokens(scores, press, options_.n_question, il, e_.m().hp.n_layer));
  // Token t of head h is row (n_held + t) n_head_kv + h of the scratch.
  std::vector<int64_t> lengths;
  std::vector<std::vector<int32_t>> rows = kept;
  for (size_t h = 0; h < kept.size(); ++h) {
    lengths.push_back(std::ssize(kept[h]));
    for (int32_t& t : rows[h])
      t = static_cast<int32_t>((kv.n_held + t) * std::ssize(kept) + static_cast<int64_t>(h));
  }
  CURDKV_TRY(KvLayer layer, KvLayer::allocate(to.cache.shape(il), e_.device(il), il, lengths));
  CURDKV_CHECK(copy_rows(*e_.compute, kv.k_rows, kv.v_rows, rows, layer));
  for (size_t h = 0; h < kept.size(); ++h) {
    std::vector<int32_t> where = kept[h];
    for (int32_t& t : where) t = static_cast<int32_t>(first_position_ + t);
    layer.positions[h] = RowPositions(where);
  }
  blocks_[index]->layers.push_back(std::move(layer));
  return {};
}

Result<void> ReadJob::read_logits() {
  const int64_t begin = options_.logits ? 0 : n_tokens_ - 1;
  for (int64_t first = begin; first < n_tokens_; first += kTileTokens) {
    const int64_t n = std::min(kTileTokens, n_tokens_ - first);
    CURDKV_TRY(ggml_context * ctx, e_.compute->begin());
    ProductsBy by_ggml(ggml_mul_mat);
    const LogitsNodes out = build_logits(ctx, e_.m(), hidden_->hidden(ctx, n_front_ + first, n), by_ggml);
    ggml_build_forward_expand(e_.compute->graph(), out.logits);
    CURDKV_CHECK(e_.compute->allocate());
    CURDKV_CHECK(e_.compute->run());
    for (int64_t i = 0; i < n; ++i) {
      CURDKV_CHECK(curdkv::read_logits(out, i, logits_));
      if (options_.logits) options_.logits(first_position_ + first + i, logits_);
    }
  }
  return {};
}

}  // namespace curdkv
