#include "engine/second_reading.h"

#include <algorithm>

#include "base/try.h"
#include "engine/decoder.h"

namespace curdkv {
namespace {

constexpr int64_t kSinks = 4;  // first tokens that every repeat sees beside its own chunk, as kvpress has it

// The highest attention that keys [first, first + n_wanted) get from any of the queries. Query i sees the
// first n_past + i + 1 of `keys`. F32 [n_wanted, 1, n_head].
ggml_tensor* highest_attention(ggml_context* ctx, ggml_tensor* keys, ggml_tensor* queries, int64_t n_past,
                               int64_t first, int64_t n_wanted, float scale) {
  ggml_tensor* a = ggml_mul_mat(ctx, keys, queries);
  a = ggml_diag_mask_inf(ctx, a, static_cast<int>(n_past));
  a = ggml_soft_max_ext(ctx, a, nullptr, scale, 0.0f);  // F32 [keys, n, n_head]
  ggml_tensor* wanted = ggml_view_3d(ctx, a, n_wanted, a->ne[1], a->ne[2], a->nb[1], a->nb[2],
                                     static_cast<size_t>(first) * a->nb[0]);
  const int n = static_cast<int>(a->ne[1]);
  return ggml_pool_2d(ctx, ggml_cont(ctx, wanted), GGML_OP_POOL_MAX, 1, n, 1, n, 0, 0);
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

Result<Scores> SecondReading::run_layer(int64_t il, const LayerKv& kv, ScratchAttention& attention,
                                        LayerProducts& products,
                                        const std::function<void(int64_t)>& progress) {
  Scores scores(n_tokens_, e_.m().hp.layer(il).n_head_kv);
  int64_t n_done = 0;
  for (size_t i = 0; i < repeats_.size(); ++i) {
    CURDKV_CHECK(readings_[i].move_to_layer(il));
    CURDKV_CHECK(repeat(il, kv, i, attention, products, scores));
    progress(n_done += readings_[i].n_padded());
  }
  return scores;
}

Result<void> SecondReading::repeat(int64_t il, const LayerKv& kv, size_t index, ScratchAttention& attention,
                                   LayerProducts& products, Scores& scores) {
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
    std::vector<ggml_tensor*> highest;
    const Attend attend = [&](const Projections& p) {
      ggml_tensor* out = attention.attend(il, kv, p, n_held_ + n_tokens_ + at);
      // Sinks, the chunk that is repeated, and the repeat itself so far.
      ggml_tensor* keys = ggml_concat(ctx, rows(kv.k, r.first, r.n), rows(kv.k, n_tokens_, at + n), 1);
      if (n_sinks > 0) keys = ggml_concat(ctx, rows(kv.k, 0, n_sinks), keys, 1);
      for (int64_t i = 0; i < n && at + i < n_real; i += kTileTokens) {
        const int64_t m = std::min({kTileTokens, n - i, n_real - at - i});
        ggml_tensor* queries = ggml_view_3d(ctx, p.q, p.q->ne[0], m, shape.n_head, p.q->nb[2], p.q->nb[1],
                                            static_cast<size_t>(i) * p.q->nb[2]);
        highest.push_back(
            highest_attention(ctx, keys, queries, n_sinks + r.n + at + i, n_sinks, r.n, shape.kq_scale));
      }
      return out;
    };
    ggml_tensor* x = reading.hidden(ctx, at, n);
    ggml_tensor* out = build_layer(ctx, e_.m(), il, x, reading.positions(ctx, at, n), nullptr, attend,
                                   products.multiply_by());
    for (ggml_tensor* t : highest) {
      ggml_set_output(t);
      ggml_build_forward_expand(e_.compute->graph(), t);
    }
    if (il + 1 < e_.m().hp.n_layer) {
      ggml_build_forward_expand(e_.compute->graph(), ggml_cpy(ctx, out, reading.hidden(ctx, at, n)));
    }
    CURDKV_CHECK(e_.compute->allocate());
    CURDKV_CHECK(e_.compute->run());
    std::vector<float> data(static_cast<size_t>(r.n * shape.n_head));
    for (ggml_tensor* t : highest) {
      ggml_backend_tensor_get(t, data.data(), 0, data.size() * sizeof(float));
      for (int64_t h = 0; h < shape.n_head; ++h) {
        float* to = scores.row(h / shape.n_group()).data() + r.first;
        for (int64_t k = 0; k < r.n; ++k) to[k] = std::max(to[k], data[static_cast<size_t>(h * r.n + k)]);
      }
    }
  }
  return {};
}

}  // namespace curdkv
