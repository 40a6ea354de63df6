#include "engine/second_reading.h"

#include <algorithm>

#include "base/try.h"
#include "engine/decoder.h"

namespace curdkv {
namespace {

constexpr int64_t kSinks = 4;  // first tokens that every repeat sees beside its own chunk, as kvpress has it

// The attention that keys [first, first + n_wanted) get from the queries. Query i sees the first
// n_past + i + 1 of `keys`. F32 [n_wanted, queries, n_head].
ggml_tensor* attention_on(ggml_context* ctx, ggml_tensor* keys, ggml_tensor* queries, int64_t n_past,
                          int64_t first, int64_t n_wanted, float scale) {
  ggml_tensor* a = ggml_mul_mat(ctx, keys, queries);
  a = ggml_diag_mask_inf(ctx, a, static_cast<int>(n_past));
  a = ggml_soft_max_ext(ctx, a, nullptr, scale, 0.0f);  // F32 [keys, n, n_head]
  ggml_tensor* wanted = ggml_view_3d(ctx, a, n_wanted, a->ne[1], a->ne[2], a->nb[1], a->nb[2],
                                     static_cast<size_t>(first) * a->nb[0]);
  return ggml_cont(ctx, wanted);
}

// From any of the queries: F32 [n_wanted, queries, n_head] to [n_wanted, 1, n_head].
ggml_tensor* highest_of(ggml_context* ctx, ggml_tensor* attention) {
  const int n = static_cast<int>(attention->ne[1]);
  return ggml_pool_2d(ctx, attention, GGML_OP_POOL_MAX, 1, n, 1, n, 0, 0);
}

// F32 [n_embd, n] to [1, n].
ggml_tensor* norms_of(ggml_context* ctx, ggml_tensor* x) {
  return ggml_sqrt(ctx, ggml_sum_rows(ctx, ggml_sqr(ctx, x)));
}

// Raises a stretch of a row of scores to what was found, where that is more.
void raise_to(float* row, const float* found, int64_t n) {
  for (int64_t i = 0; i < n; ++i) row[i] = std::max(row[i], found[i]);
}

}  // namespace

int64_t SecondReading::n_rows() const {
  size_t longest = 0;
  for (const Repeat& r : repeats_) longest = std::max(longest, r.tokens.size());
  return round_up(static_cast<int64_t>(longest), kTileTokens);
}

int64_t SecondReading::n_repeated() const {
  int64_t n = 0;
  for (const Repeat& r : repeats_) n += round_up(static_cast<int64_t>(r.tokens.size()), kTileTokens);
  return n;
}

size_t SecondReading::n_bytes() const {
  size_t n = 0;
  for (const HiddenStates& r : readings_) n += r.n_bytes();
  return n;
}

Result<void> SecondReading::start() {
  for (const Repeat& r : repeats_) {
    const int64_t n_padded = round_up(static_cast<int64_t>(r.tokens.size()), kTileTokens);
    CURDKV_TRY(HiddenStates reading,
               HiddenStates::start(e_, r.tokens, n_padded, n_chunk_, first_position_ + n_tokens_,
                                   "the hidden states of the context's second reading"));
    readings_.push_back(std::move(reading));
  }
  return {};
}

Result<Repeated> SecondReading::run_layer(int64_t il, const LayerKv& kv, ScratchAttention& attention,
                                          LayerProducts& products,
                                          const std::function<void(int64_t)>& progress) {
  const LayerShape& shape = e_.m().hp.layer(il);
  Repeated out = {Scores(n_tokens_, shape.n_head_kv), {}};
  if (per_input_) out.per_input = Scores(n_tokens_, shape.n_head);
  int64_t n_done = 0;
  for (size_t i = 0; i < repeats_.size(); ++i) {
    CURDKV_CHECK(readings_[i].move_to_layer(il));
    CURDKV_CHECK(repeat(il, kv, i, attention, products, out));
    progress(n_done += readings_[i].n_padded());
  }
  return out;
}

Result<void> SecondReading::repeat(int64_t il, const LayerKv& kv, size_t index, ScratchAttention& attention,
                                   LayerProducts& products, Repeated& out) {
  const Repeat& r = repeats_[index];
  const HiddenStates& reading = readings_[index];
  const LayerShape& shape = e_.m().hp.layer(il);
  const auto n_real = static_cast<int64_t>(r.tokens.size());
  const int64_t n_sinks = std::min(kSinks, r.first);
  for (int64_t at = 0; at < reading.n_padded(); at += n_chunk_) {
    const int64_t n = std::min(n_chunk_, reading.n_padded() - at);
    CURDKV_TRY(ggml_context * ctx, e_.compute->begin());
    const auto rows = [&](ggml_tensor* x, int64_t first, int64_t count) {  // [d, count, n_head_kv]
      return ggml_view_3d(ctx, x, x->ne[0], count, x->ne[1], x->nb[2], x->nb[1],
                          static_cast<size_t>(n_held_ + first) * x->nb[2]);
    };
    std::vector<ggml_tensor*> highest, per_input;
    const Attend attend = [&](const Projections& p) {
      ggml_tensor* attended = attention.attend(il, kv, p, n_held_ + n_tokens_ + at);
      // Sinks, the chunk that is repeated, and the repeat itself so far.
      ggml_tensor* keys = ggml_concat(ctx, rows(kv.k, r.first, r.n), rows(kv.k, n_tokens_, at + n), 1);
      if (n_sinks > 0) keys = ggml_concat(ctx, rows(kv.k, 0, n_sinks), keys, 1);
      ggml_tensor* norms = per_input_ ? norms_of(ctx, p.x) : nullptr;
      for (int64_t i = 0; i < n && at + i < n_real; i += kTileTokens) {
        const int64_t m = std::min({kTileTokens, n - i, n_real - at - i});
        ggml_tensor* queries = ggml_view_3d(ctx, p.q, p.q->ne[0], m, shape.n_head, p.q->nb[2], p.q->nb[1],
                                            static_cast<size_t>(i) * p.q->nb[2]);
        ggml_tensor* a =
            attention_on(ctx, keys, queries, n_sinks + r.n + at + i, n_sinks, r.n, shape.kq_scale);
        highest.push_back(highest_of(ctx, a));
        if (norms == nullptr) continue;
        ggml_tensor* own =
            ggml_view_2d(ctx, norms, 1, m, norms->nb[1], static_cast<size_t>(i) * norms->nb[1]);
        per_input.push_back(highest_of(ctx, ggml_div(ctx, a, own)));
      }
      return attended;
    };
    ggml_tensor* x = reading.hidden(ctx, at, n);
    ProductsBy multiply(products.multiply_by());
    ggml_tensor* layer_out =
        build_layer(ctx, e_.m(), il, x, reading.positions(ctx, at, n), nullptr, attend, multiply);
    for (const auto* wanted : {&highest, &per_input}) {
      for (ggml_tensor* t : *wanted) {
        ggml_set_output(t);
        ggml_build_forward_expand(e_.compute->graph(), t);
      }
    }
    if (il + 1 < e_.m().hp.n_layer) {
      ggml_build_forward_expand(e_.compute->graph(), ggml_cpy(ctx, layer_out, reading.hidden(ctx, at, n)));
    }
    CURDKV_CHECK(e_.compute->allocate());
    CURDKV_CHECK(e_.compute->run());
    std::vector<float> data(static_cast<size_t>(r.n * shape.n_head));
    const auto take = [&](ggml_tensor* t, Scores& scores) {
      ggml_backend_tensor_get(t, data.data(), 0, data.size() * sizeof(float));
      const int64_t n_group = shape.n_head / scores.n_head();
      for (int64_t h = 0; h < shape.n_head; ++h)
        raise_to(scores.row(h / n_group).data() + r.first, data.data() + h * r.n, r.n);
    };
    for (ggml_tensor* t : highest) take(t, out.highest);
    for (ggml_tensor* t : per_input) take(t, out.per_input);
  }
  return {};
}

}  // namespace curdkv
