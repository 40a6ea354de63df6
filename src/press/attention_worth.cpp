#include "press/attention_worth.h"

#include <algorithm>
#include <cmath>

#include "base/try.h"
#include "press/layer_ops.h"

namespace curdkv {

namespace {

// Sums of the queries' squared weights on every token: [n_tokens, n_head_kv].
Result<std::vector<double>> fused_squares(LayerView& layer, const ReferenceQueries& queries) {
  const int64_t n = layer.n_tokens, n_head = layer.n_head_kv;
  CURDKV_TRY(const auto parts, layer.run([&](ScoreGraph& g) {
    ggml_tensor* q = g.constant(queries.q, layer.d_head_k, queries.n, n_head);
    return std::vector<ggml_tensor*>{layer.fused()->column_squares(q, layer.keys(g, 0, n), layer.kq_scale)};
  }));
  std::vector<double> squares(static_cast<size_t>(n * n_head), 0.0);
  constexpr int64_t kParts = FusedOps::kSquareParts;
  const int64_t width = std::ssize(parts[0]) / (n_head * kParts);
  for (int64_t i = 0; i < n_head * kParts; ++i) {
    for (int64_t t = 0; t < n; ++t)
      squares[static_cast<size_t>(i % n_head * n + t)] += parts[0][static_cast<size_t>(i * width + t)];
  }
  return squares;
}

Result<std::vector<double>> sliced_squares(LayerView& layer, const ReferenceQueries& queries) {
  const int64_t n = layer.n_tokens, d = layer.d_head_k, n_head = layer.n_head_kv;
  // Queries at a time: their weights are to stay within a few MiB.
  const int64_t step = std::clamp<int64_t>((int64_t{1} << 20) / (n * n_head), 1, queries.n);
  std::vector<double> squares(static_cast<size_t>(n * n_head), 0.0);
  for (int64_t at = 0; at < queries.n; at += step) {
    const int64_t m = std::min(step, queries.n - at);
    std::vector<float> some;
    for (int64_t h = 0; h < n_head; ++h) {
      const auto first = queries.q.begin() + (h * queries.n + at) * d;
      some.insert(some.end(), first, first + m * d);
    }
    CURDKV_TRY(const auto parts, layer.run([&](ScoreGraph& g) {
      ggml_tensor* weights = ggml_mul_mat(g.ctx(), layer.keys(g, 0, n), g.constant(some, d, m, n_head));
      weights = ggml_soft_max_ext(g.ctx(), weights, nullptr, layer.kq_scale, 0.0f);
      return std::vector<ggml_tensor*>{sum_columns(g, ggml_sqr(g.ctx(), weights))};
    }));
    std::transform(squares.begin(), squares.end(), parts[0].begin(), squares.begin(), std::plus<>());
  }
  return squares;
}

}  // namespace

Result<Scores> LayerView::reference_worth(int64_t n_queries) {
  CURDKV_TRY(const ReferenceQueries* queries, reference_queries(n_queries));
  return attention_worth(*this, *queries);
}

Result<Scores> attention_worth(LayerView& layer, const ReferenceQueries& queries) {
  CURDKV_TRY(const std::vector<double> squares,
             layer.fused() != nullptr ? fused_squares(layer, queries) : sliced_squares(layer, queries));
  CURDKV_TRY(Scores worth, squared_value_norms(layer));
  for (size_t i = 0; i < squares.size(); ++i) {
    const double mean = squares[i] / static_cast<double>(queries.n);
    worth.data()[i] = static_cast<float>(std::sqrt(mean * static_cast<double>(worth.data()[i])));
  }
  return worth;
}

}  // namespace curdkv
