// The attention that queries yet to come can be expected to pay: queries before RoPE are taken as normally
// distributed, with mean and covariance measured on the context; RoPE is averaged over the positions to come.
// Then E[exp(q k)] = exp(mu k + k C k / 2), which a softmax over tokens and the norm of the value turn into a
// score. Devoto et al., "Expected Attention: KV Cache Compression by Estimating Attention from Future
// Queries", 2025 (arXiv 2510.00636); kvpress ExpectedAttentionPress.
#include <Eigen/Core>
#include <algorithm>
#include <cmath>

#include "base/try.h"
#include "press/entry.h"
#include "press/layer_ops.h"

namespace curdkv {
namespace {

using Matrix = Eigen::MatrixXd;

struct Moments {
  Eigen::VectorXd mean;
  Matrix covariance;
};

class ExpectedAttention : public Scorer {
 public:
  explicit ExpectedAttention(const ParamValues& v)
      : future_(v.get_int("future")),
        sinks_(v.get_int("sinks")),
        covariance_(v.get_bool("covariance")),
        value_norm_(v.get_bool("vnorm")),
        epsilon_(static_cast<float>(v.get_real("epsilon"))) {}

  ScorerNeeds needs() const override { return {.n_queries = ScorerNeeds::kAll, .each_query = true}; }
  int64_t n_sinks() const override { return sinks_; }

  Result<Scores> score(LayerView& layer, const ScoreRequest&) const override {
    Scores scores(layer.n_tokens, layer.n_head_kv, 1.0f);
    const int64_t sinks = layer.n_below(sinks_), n = layer.n_tokens - sinks;
    if (n <= 0) return scores;
    CURDKV_TRY(Scores expected, logits(layer, sinks));
    for (int64_t h = 0; h < expected.n_head(); ++h) softmax(expected.row(h));
    expected = mean_over_groups(expected, layer.n_group);
    if (value_norm_) CURDKV_CHECK(multiply_by_value_norms(layer, sinks, expected));
    fill_tokens(scores, 0, sinks, highest(expected) + 1);
    for (int64_t h = 0; h < layer.n_head_kv; ++h) {
      std::copy(expected.row(h).begin(), expected.row(h).end(), scores.row(h).begin() + sinks);
    }
    return scores;
  }

 private:
  // mu k / sqrt(d) + k C k / 2d of all tokens but the first `sinks`: [n, n_head].
  Result<Scores> logits(LayerView& layer, int64_t sinks) const {
    const int64_t d = layer.d_head_k, n = layer.n_tokens - sinks;
    CURDKV_TRY(const std::vector<float> flat, layer.mean_rotation(layer.positions.back() + 1, future_));
    const Matrix r = Eigen::Map<const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>(
                         flat.data(), d, d)
                         .cast<double>();
    CURDKV_TRY(const std::vector<Moments> moments, query_moments(layer, sinks, n));
    const auto scale = static_cast<double>(layer.kq_scale);
    std::vector<float> mu, cov;
    for (const Moments& m : moments) {
      const Eigen::VectorXd rotated = scale * r * m.mean;
      for (double x : rotated) mu.push_back(static_cast<float>(x));
      if (!covariance_) continue;
      const Matrix c = 0.5 * scale * scale * r * m.covariance * r.transpose();
      for (Eigen::Index i = 0; i < c.size(); ++i) cov.push_back(static_cast<float>(c.data()[i]));
    }
    return per_token(layer, sinks, n, layer.n_head(), [&](ScoreGraph& g, int64_t first, int64_t m) {
      return exponents(g, layer, mu, cov, as_f32(g, layer.keys(g, first, m)));
    });
  }

  // F32 [n, n_head].
  static ggml_tensor* exponents(ScoreGraph& g, const LayerView& layer, const std::vector<float>& mu,
                                const std::vector<float>& cov, ggml_tensor* k) {
    ggml_context* ctx = g.ctx();
    const int64_t d = layer.d_head_k, n = k->ne[1], group = layer.n_group, n_head_kv = layer.n_head_kv;
    ggml_tensor* out = ggml_mul_mat(ctx, k, g.constant(mu, d, 1, layer.n_head()));  // [n, 1, n_head]
    if (cov.empty()) return out;
    // All heads of a group share their keys, so their matrices lie side by side.
    ggml_tensor* c = ggml_reshape_3d(ctx, g.constant(cov, d, d, layer.n_head()), d, d * group, n_head_kv);
    ggml_tensor* ck = ggml_reshape_4d(ctx, ggml_mul_mat(ctx, c, k), d, group, n, n_head_kv);
    ggml_tensor* kck = ggml_sum_rows(ctx, ggml_mul(ctx, ck, ggml_reshape_4d(ctx, k, d, 1, n, n_head_kv)));
    kck = ggml_cont(
        ctx, ggml_permute(ctx, kck, 1, 2, 0, 3));  // [1, group, n, n_head_kv] -> [n, 1, group, n_head_kv]
    return ggml_add(ctx, out, ggml_reshape_3d(ctx, kck, n, 1, layer.n_head()));
  }

  static ggml_tensor* raw_queries(ScoreGraph& g, LayerView& layer, int64_t first, int64_t n) {
    return layer.without_rope(g, layer.queries(g, first, n), first);  // F32 [d, n, n_head]
  }

  // Of the queries before RoPE, per query head. Taken about the mean of the first few tokens, as sums of
  // squares in F32 would lose the covariance where the mean is far from 0.
  Result<std::vector<Moments>> query_moments(LayerView& layer, int64_t begin, int64_t n) const {
    const int64_t d = layer.d_head_k, n_few = std::min<int64_t>(n, 64);
    CURDKV_TRY(const std::vector<double> few,
               sum_slices(layer, begin, n_few, [&](ScoreGraph& g, int64_t first, int64_t m) {
                 return sum_columns(g, raw_queries(g, layer, first, m));
               }));
    std::vector<float> about;
    for (double x : few) about.push_back(static_cast<float>(x / static_cast<double>(n_few)));
    CURDKV_TRY(const std::vector<double> sums,  // [d, d + 1, n_head]: products, and in the last column sums
               sum_slices(layer, begin, n, [&](ScoreGraph& g, int64_t first, int64_t m) {
                 ggml_tensor* q = raw_queries(g, layer, first, m);
                 q = ggml_sub(g.ctx(), q, g.constant(about, d, 1, layer.n_head()));
                 return ggml_concat(g.ctx(), gram_matrix(g, q), sum_columns(g, q), 1);
               }));
    std::vector<Moments> out;
    for (int64_t h = 0; h < layer.n_head(); ++h) {
      const Matrix all =
          Eigen::Map<const Matrix>(sums.data() + h * d * (d + 1), d, d + 1) / static_cast<double>(n);
      const Eigen::VectorXd off = all.col(d);
      const Eigen::VectorXd centre =
          Eigen::Map<const Eigen::VectorXf>(about.data() + h * d, d).cast<double>();
      out.push_back({centre + off, all.leftCols(d) - off * off.transpose()});
    }
    return out;
  }

  static void softmax(std::span<float> x) {
    const float top = *std::max_element(x.begin(), x.end());
    double sum = 0;
    for (float& v : x) sum += static_cast<double>(v = std::exp(v - top));
    for (float& v : x) v = static_cast<float>(v / sum);
  }

  Result<void> multiply_by_value_norms(LayerView& layer, int64_t begin, Scores& scores) const {
    CURDKV_TRY(const Scores squares, squared_value_norms(layer));
    for (int64_t h = 0; h < scores.n_head(); ++h) {
      for (int64_t t = 0; t < scores.n_tokens(); ++t) {
        float& x = scores.row(h)[static_cast<size_t>(t)];
        x = (x + epsilon_) * std::sqrt(squares.at(h, begin + t));
      }
    }
    return {};
  }

  int64_t future_, sinks_;
  bool covariance_, value_norm_;
  float epsilon_;
};

std::vector<PressParam> params() {
  return {int_param("future", 512, 1, 1 << 16, "positions to come that RoPE is averaged over"),
          bool_param("covariance", true, "use the covariance of the queries, not their mean alone"),
          bool_param("vnorm", true, "multiply by the norm of the value"),
          real_param("epsilon", 0, 0, 1, "added before the value's norm multiplies"),
          int_param("sinks", 4, 0, 1 << 20, "first tokens that are always kept")};
}

}  // namespace

extern const ScorerEntry expected_attention_scorer = {
    "expected_attention", "attention that queries to come are expected to pay",
    "Expected Attention (arXiv 2510.00636); kvpress ExpectedAttentionPress", params,
    [](const ParamValues& v) -> std::unique_ptr<Scorer> { return std::make_unique<ExpectedAttention>(v); }};

}  // namespace curdkv
