// CapKV: what a value is alone in saying, as far as queries are likely to want it. With weights
// w = exp(tau cos(k, mu)), mu the mean query before RoPE turned by the mean rotation of the positions to
// come, and A = I + sum w v v^T, a token scores w v^T A^-1 v: what it adds to log det A, the capacity of what
// is kept. Averaged over the query heads of a group. Yang et al., "Rethinking KV Cache Eviction via a Unified
// Information-Theoretic Objective", 2026 (arXiv 2604.25975); kvpress CapPress (cap_press.py), whose cosine
// stands for the paper's product k mu, and whose rotation for a mean query as it is.
#include <algorithm>
#include <cmath>

#include "base/try.h"
#include "press/entry.h"
#include "press/layer_ops.h"
#include "press/leverage_scores.h"

namespace curdkv {
namespace {

class CapKv : public Scorer {
 public:
  explicit CapKv(const ParamValues& v)
      : tau_(v.get_real("tau")),
        future_(v.get_int("future")),
        sinks_(v.get_int("sinks")),
        epsilon_(static_cast<float>(v.get_real("epsilon"))) {}

  ScorerNeeds needs() const override { return {.n_queries = ScorerNeeds::kAll, .each_query = true}; }
  int64_t n_sinks() const override { return sinks_; }

  Result<Scores> score(LayerView& layer, const ScoreRequest&) const override {
    Scores scores(layer.n_tokens, layer.n_head_kv, 1.0f);
    const int64_t sinks = layer.n_below(sinks_), n = layer.n_tokens - sinks;
    if (n <= 0) return scores;
    CURDKV_TRY(const Scores weights, query_weights(layer, sinks, n));
    CURDKV_TRY(Scores capacity,
               leverage_scores(layer, sinks, n, layer.d_head_v, layer.n_head(), {.absolute = 1},
                               weighted_values(layer, sinks, weights), true));
    for (size_t i = 0; i < capacity.data().size(); ++i) {
      const float w = weights.data()[i];
      capacity.data()[i] *= w / (w + epsilon_);  // epsilon is in A alone
    }
    capacity = mean_over_groups(capacity, layer.n_group);
    fill_tokens(scores, 0, sinks, highest(capacity) + 1);
    for (int64_t h = 0; h < layer.n_head_kv; ++h) {
      std::copy(capacity.row(h).begin(), capacity.row(h).end(), scores.row(h).begin() + sinks);
    }
    return scores;
  }

 private:
  // exp(tau (cos(k, mu) - the head's highest)) of tokens [begin, begin + n): [n, n_head].
  Result<Scores> query_weights(LayerView& layer, int64_t begin, int64_t n) const {
    CURDKV_TRY(const std::vector<float> anchors, query_anchors(layer, begin, n));
    CURDKV_TRY(Scores weights,
               per_token(layer, begin, n, layer.n_head(), [&](ScoreGraph& g, int64_t first, int64_t m) {
                 return cosines(g, layer, anchors, first, m);
               }));
    for (int64_t h = 0; h < weights.n_head(); ++h) {
      const auto row = weights.row(h);
      const float top = *std::max_element(row.begin(), row.end());
      for (float& x : row) x = static_cast<float>(std::exp(tau_ * static_cast<double>(x - top)));
    }
    return weights;
  }

  // mu of every query head, of no particular length: [d_head_k, n_head].
  Result<std::vector<float>> query_anchors(LayerView& layer, int64_t begin, int64_t n) const {
    const auto d = static_cast<size_t>(layer.d_head_k);
    CURDKV_TRY(const std::vector<double> sums,
               sum_slices(layer, begin, n, [&](ScoreGraph& g, int64_t first, int64_t m) {
                 return sum_columns(g, layer.without_rope(g, layer.queries(g, first, m), first));
               }));
    CURDKV_TRY(const std::vector<float> rotation, layer.mean_rotation(layer.positions.back() + 1, future_));
    std::vector<float> anchors;
    for (size_t at = 0; at < sums.size(); at += d) {
      for (size_t r = 0; r < d; ++r) {
        double x = 0;
        for (size_t c = 0; c < d; ++c) x += static_cast<double>(rotation[r * d + c]) * sums[at + c];
        anchors.push_back(static_cast<float>(x / static_cast<double>(n)));
      }
    }
    return anchors;
  }

  // F32 [n, 1, n_head].
  static ggml_tensor* cosines(ScoreGraph& g, LayerView& layer, const std::vector<float>& anchors,
                              int64_t first, int64_t n) {
    constexpr float kNone = 1e-12f;
    ggml_context* ctx = g.ctx();
    ggml_tensor* k = ggml_l2_norm(ctx, as_f32(g, layer.keys(g, first, n)), kNone);
    ggml_tensor* mu = ggml_l2_norm(ctx, g.constant(anchors, layer.d_head_k, 1, layer.n_head()), kNone);
    return ggml_mul_mat(ctx, k, mu);
  }

  // sqrt(w + epsilon) v of every query head: F32 [d_head_v, n, n_head].
  SliceGraph weighted_values(LayerView& layer, int64_t begin, const Scores& weights) const {
    return [&layer, &weights, begin, epsilon = epsilon_](ScoreGraph& g, int64_t first, int64_t n) {
      ggml_context* ctx = g.ctx();
      const int64_t d = layer.d_head_v, group = layer.n_group, n_head_kv = layer.n_head_kv;
      std::vector<float> roots;
      for (int64_t h = 0; h < layer.n_head(); ++h) {
        for (int64_t t = 0; t < n; ++t)
          roots.push_back(std::sqrt(weights.at(h, first - begin + t) + epsilon));
      }
      ggml_tensor* w = ggml_reshape_4d(ctx, g.constant(roots, 1, n, layer.n_head()), 1, n, group, n_head_kv);
      ggml_tensor* v = ggml_reshape_4d(ctx, as_f32(g, layer.values(g, first, n)), d, n, 1, n_head_kv);
      v = ggml_repeat_4d(ctx, v, d, n, group, n_head_kv);
      return ggml_reshape_3d(ctx, ggml_mul(ctx, v, w), d, n, layer.n_head());
    };
  }

  double tau_;
  int64_t future_, sinks_;
  float epsilon_;
};

std::vector<PressParam> params() {
  return {real_param("tau", 5, 0, 1e3, "how much more a token weighs that queries point to"),
          int_param("future", 512, 1, 1 << 16, "positions to come that RoPE is averaged over"),
          int_param("sinks", 4, 0, 1 << 20, "first tokens that are always kept"),
          real_param("epsilon", 1e-6, 0, 1, "added to the weights in A")};
}

}  // namespace

extern const ScorerEntry capkv_scorer = {
    "capkv", "what values alone say, weighed by the mean query's direction",
    "CapKV (arXiv 2604.25975); kvpress CapPress", params,
    [](const ParamValues& v) -> std::unique_ptr<Scorer> { return std::make_unique<CapKv>(v); }};

}  // namespace curdkv
