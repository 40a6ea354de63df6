#include "engine/prefill.h"

#include <algorithm>

#include "base/stopwatch.h"
#include "base/try.h"
#include "engine/compaction.h"
#include "engine/decoder.h"

namespace curdkv {
namespace {

// Tensors of a context in one buffer on the device; out_of_memory says what they were for.
Result<GgmlBuffer> allocate(ggml_context* ctx, ggml_backend_dev_t device, const char* what) {
  GgmlBuffer buffer(ggml_backend_alloc_ctx_tensors_from_buft(ctx, ggml_backend_dev_buffer_type(device)));
  if (!buffer) return Error{ErrorCode::out_of_memory, std::string("not enough memory for ") + what};
  return buffer;
}

}  // namespace

Prefill::Prefill(Session::Impl& session, std::span<const Token> tokens, const Press& press,
                 const PrefillOptions& options)
    : s_(session),
      tokens_(tokens),
      press_(press),
      options_(options),
      needs_(press.is_none() ? ScorerNeeds() : press.scorer()->needs()),
      n_tokens_(static_cast<int64_t>(tokens.size())),
      // Padding tokens come last, so nothing real sees them; every chunk is then made of whole query tiles
      // and takes the same kernels, whatever the chunk size: the same rounding, the same kept tokens.
      n_padded_(round_up(n_tokens_, kTileTokens)),
      n_chunk_(std::min(round_up(session.params.n_batch, kTileTokens), n_padded_)),
      mask_{n_padded_ - kTileTokens, n_chunk_} {  // the last chunk starts there at the latest
  report_.n_tokens = n_tokens_;
}

Result<PrefillReport> Prefill::run() {
  const Stopwatch all;
  CURDKV_CHECK(allocate_hidden(s_.m().weights.layer_device[0]));
  CURDKV_CHECK(allocate_inputs());
  CURDKV_CHECK(embed());
  s_.kept.clear();
  std::vector<LayerKv> waiting;  // compress_at_end only
  const int64_t n_layer = s_.m().hp.n_layer;
  LayerKv kv;
  for (int64_t il = 0; il < n_layer; ++il) {
    ggml_backend_dev_t device = s_.m().weights.layer_device[static_cast<size_t>(il)];
    if (device != hidden_device_) CURDKV_CHECK(allocate_hidden(device));
    const bool same_device = il > 0 && device == s_.m().weights.layer_device[static_cast<size_t>(il) - 1];
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
  if (press_.is_none()) s_.kept.clear();
  kv = {};
  CURDKV_CHECK(read_logits());
  s_.n_tokens = s_.next_position = n_tokens_;
  report_.prefill_ms = all.ms();
  return report_;
}

void Prefill::note_peak(size_t kv_bytes) {
  report_.hidden_bytes = ggml_backend_buffer_get_size(hidden_buffer_.get());
  report_.kv_bytes_peak =
      std::max(report_.kv_bytes_peak, kv_bytes + s_.cache.n_bytes() + report_.hidden_bytes);
}

// Makes hidden_ live on the device, moving its data when there is any.
Result<void> Prefill::allocate_hidden(ggml_backend_dev_t device) {
  GgmlContext context = make_ggml_context(1);
  ggml_tensor* hidden = ggml_new_tensor_2d(context.get(), GGML_TYPE_F32, s_.m().hp.n_embd, n_padded_);
  ggml_set_name(hidden, "hidden");
  CURDKV_TRY(GgmlBuffer buffer, allocate(context.get(), device, "the hidden states of the context"));
  if (hidden_ != nullptr) ggml_backend_tensor_copy(hidden_, hidden);
  hidden_ = hidden;
  hidden_device_ = device;
  hidden_context_ = std::move(context);
  hidden_buffer_ = std::move(buffer);
  return {};
}

Result<LayerKv> Prefill::allocate_kv(int64_t il) const {
  const HParams& hp = s_.m().hp;
  LayerKv kv;
  kv.context = make_ggml_context(5);
  // ggml's tiled attention wants keys and values of one type.
  const CacheShape& shape = s_.cache.shape();
  const bool any_f32 = shape.type_k == GGML_TYPE_F32 || shape.type_v == GGML_TYPE_F32;
  const ggml_type t = any_f32 ? GGML_TYPE_F32 : GGML_TYPE_F16;
  kv.k = ggml_new_tensor_3d(kv.context.get(), t, hp.d_head_k, hp.n_head_kv, n_padded_);
  kv.v = ggml_new_tensor_3d(kv.context.get(), t, hp.d_head_v, hp.n_head_kv, n_padded_);
  const auto rows = [&](ggml_tensor* x) {
    return ggml_reshape_2d(kv.context.get(), x, x->ne[0], x->ne[1] * x->ne[2]);
  };
  kv.k_rows = rows(kv.k);
  kv.v_rows = rows(kv.v);
  if (needs_.n_queries > 0) {
    kv.q_first = std::max<int64_t>(0, n_tokens_ - needs_.n_queries);
    kv.q = ggml_new_tensor_3d(kv.context.get(), t, hp.d_head_k, hp.n_head, n_padded_ - kv.q_first);
  }
  CURDKV_TRY(kv.buffer, allocate(kv.context.get(), s_.m().weights.layer_device[static_cast<size_t>(il)],
                                 "one layer's keys and values"));
  return kv;
}

Result<void> Prefill::allocate_inputs() {
  ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
  input_context_ = make_ggml_context(3);
  ggml_context* ctx = input_context_.get();
  mask_data_ = ggml_new_tensor_1d(ctx, GGML_TYPE_F16, mask_.n_elements());
  ids_ = ggml_new_tensor_1d(ctx, GGML_TYPE_I32, n_padded_);
  positions_ = ggml_new_tensor_1d(ctx, GGML_TYPE_I32, n_padded_);
  CURDKV_TRY(input_buffer_, allocate(ctx, cpu, "the attention mask"));
  mask_.write(mask_data_);
  std::vector<int32_t> ids(tokens_.begin(), tokens_.end()), positions;
  ids.resize(static_cast<size_t>(n_padded_), 0);
  for (int64_t t = 0; t < n_padded_; ++t) positions.push_back(static_cast<int32_t>(t));
  Compute::set(ids_, ids);
  Compute::set(positions_, positions);
  return {};
}

ggml_tensor* Prefill::hidden_rows(ggml_context* ctx, int64_t first, int64_t n) const {
  return view_rows(ctx, hidden_, first, n);
}

Result<void> Prefill::embed() {
  for (int64_t first = 0; first < n_padded_; first += n_chunk_) {
    const int64_t n = std::min(n_chunk_, n_padded_ - first);
    ggml_context* ctx = s_.compute->begin();
    ggml_tensor* ids = ggml_view_1d(ctx, ids_, n, static_cast<size_t>(first) * sizeof(int32_t));
    ggml_tensor* rows = ggml_get_rows(ctx, s_.m().weights.token_embd, ids);
    ggml_build_forward_expand(s_.compute->graph(), ggml_cpy(ctx, rows, hidden_rows(ctx, first, n)));
    CURDKV_CHECK(s_.compute->allocate());
    CURDKV_CHECK(s_.compute->run());
  }
  return {};
}

Result<void> Prefill::run_layer(int64_t il, LayerKv& kv) {
  for (int64_t first = 0; first < n_padded_; first += n_chunk_) {
    const int64_t n = std::min(n_chunk_, n_padded_ - first);
    CURDKV_CHECK(run_chunk(il, kv, first, n));
    if (options_.progress) {
      options_.progress(il * n_tokens_ + std::min(first + n, n_tokens_), s_.m().hp.n_layer * n_tokens_);
    }
  }
  return {};
}

Result<void> Prefill::run_chunk(int64_t il, LayerKv& kv, int64_t first, int64_t n) {
  ggml_context* ctx = s_.compute->begin();
  // Keeps the chunk's tokens from `from` on in `all`, whose first row is token `from`.
  const auto store = [&](ggml_tensor* all, ggml_tensor* fresh, int64_t from = 0) {
    const int64_t begin = std::max(first, from), n_stored = first + n - begin;
    if (n_stored <= 0) return;
    fresh = ggml_view_3d(ctx, fresh, fresh->ne[0], fresh->ne[1], n_stored, fresh->nb[1], fresh->nb[2],
                         static_cast<size_t>(begin - first) * fresh->nb[2]);
    ggml_tensor* to = ggml_view_3d(ctx, all, all->ne[0], all->ne[1], n_stored, all->nb[1], all->nb[2],
                                   static_cast<size_t>(begin - from) * all->nb[2]);
    ggml_build_forward_expand(s_.compute->graph(), ggml_cpy(ctx, fresh, to));
  };
  const auto seen = [&](ggml_tensor* all) {  // [d, first + n, n_head_kv]
    return ggml_view_3d(ctx, all, all->ne[0], first + n, all->ne[1], all->nb[2], all->nb[1], 0);
  };
  const Attend attend = [&](const Projections& p) {
    store(kv.k, p.k);
    store(kv.v, p.v);
    if (kv.q != nullptr) store(kv.q, p.q, kv.q_first);
    ggml_tensor* out =
        ggml_flash_attn_ext(ctx, ggml_permute(ctx, p.q, 0, 2, 1, 3), seen(kv.k), seen(kv.v),
                            mask_.view(ctx, mask_data_, first), s_.m().hp.kq_scale, 0.0f, 0.0f);
    ggml_prec_set_acc(out, GGML_PREC_F32);
    return ggml_reshape_2d(ctx, out, out->ne[0] * out->ne[1], n);
  };
  ggml_tensor* positions = ggml_view_1d(ctx, positions_, n, static_cast<size_t>(first) * sizeof(int32_t));
  ggml_tensor* x = hidden_rows(ctx, first, n);
  ggml_tensor* out = build_layer(ctx, s_.m(), il, x, positions, nullptr, attend);
  // Of the last layer only keys and values are wanted, and the hidden states that become logits.
  const bool last_layer = il + 1 == s_.m().hp.n_layer, holds_last_token = first + n == n_padded_;
  if (!last_layer || holds_last_token || options_.logits) {
    ggml_build_forward_expand(s_.compute->graph(), ggml_cpy(ctx, out, hidden_rows(ctx, first, n)));
  }
  CURDKV_CHECK(s_.compute->allocate());
  return s_.compute->run();
}

Result<void> Prefill::compress(int64_t il, const LayerKv& kv) {
  const Stopwatch watch;
  PrefilledLayer layer(*s_.compute, s_.layer_model(il, press_.seed()), kv, n_tokens_);
  CURDKV_TRY(KeptTokens kept, select_tokens(layer, press_, options_.n_question, il, s_.m().hp.n_layer));
  // Token t of head h is row t n_head_kv + h of the scratch.
  std::vector<int64_t> lengths;
  std::vector<std::vector<int32_t>> rows = kept;
  for (size_t h = 0; h < kept.size(); ++h) {
    lengths.push_back(static_cast<int64_t>(kept[h].size()));
    for (int32_t& t : rows[h])
      t = static_cast<int32_t>(t * static_cast<int64_t>(kept.size()) + static_cast<int64_t>(h));
  }
  CURDKV_TRY(RaggedLayer kept_rows, s_.cache.allocate_layer(il, lengths, lengths));
  s_.cache.replace(il, std::move(kept_rows));
  CURDKV_CHECK(copy_rows(*s_.compute, kv.k_rows, kv.v_rows, rows, s_.cache.layer(il)));
  s_.kept.push_back(std::move(kept));
  note_peak(kv.n_bytes());
  report_.compress_ms += watch.ms();
  return {};
}

Result<void> Prefill::read_logits() {
  const int64_t n_vocab = s_.m().hp.n_vocab;
  s_.logits.resize(static_cast<size_t>(n_vocab));
  const int64_t begin = options_.logits ? 0 : n_tokens_ - 1;
  for (int64_t first = begin; first < n_tokens_; first += kTileTokens) {
    const int64_t n = std::min(kTileTokens, n_tokens_ - first);
    ggml_context* ctx = s_.compute->begin();
    ggml_tensor* out = build_logits(ctx, s_.m(), hidden_rows(ctx, first, n));
    ggml_build_forward_expand(s_.compute->graph(), out);
    CURDKV_CHECK(s_.compute->allocate());
    CURDKV_CHECK(s_.compute->run());
    for (int64_t i = 0; i < n; ++i) {
      ggml_backend_tensor_get(out, s_.logits.data(), static_cast<size_t>(i) * out->nb[1],
                              s_.logits.size() * sizeof(float));
      if (options_.logits) options_.logits(first + i, s_.logits);
    }
  }
  return {};
}

}  // namespace curdkv
