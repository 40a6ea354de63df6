#include "press/attention_worth.h"

#include <algorithm>
#include <cmath>

#include "base/try.h"
#include "press/layer_ops.h"

namespace curdkv {

Result<Scores> attention_worth(LayerView& layer, const ReferenceQueries& queries) {
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
  CURDKV_TRY(Scores worth, squared_value_norms(layer));
  for (size_t i = 0; i < squares.size(); ++i) {
    const double mean = squares[i] / static_cast<double>(queries.n);
    worth.data()[i] = static_cast<float>(std::sqrt(mean * static_cast<double>(worth.data()[i])));
  }
  return worth;
}

}  // namespace curdkv
