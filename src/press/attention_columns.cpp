#include "press/attention_columns.h"

#include <algorithm>

#include "base/try.h"
#include "press/layer_ops.h"

namespace curdkv {
namespace {

// a: F32 [n_seen, queries, n_head] of the queries from `at` on; what a query does not see becomes -inf.
ggml_tensor* masked(ScoreGraph& g, const LayerView& layer, ggml_tensor* a, int64_t at) {
  const int64_t n = a->ne[1], first = layer.n_seen(at);
  bool one_more_each = true;
  for (int64_t i = 0; i < n; ++i) one_more_each = one_more_each && layer.n_seen(at + i) == first + i;
  if (one_more_each) return ggml_diag_mask_inf(g.ctx(), a, static_cast<int>(first - 1));
  std::vector<float> mask(static_cast<size_t>(a->ne[0] * n), 0.0f);
  for (int64_t i = 0; i < n; ++i) {
    std::fill(mask.begin() + i * a->ne[0] + layer.n_seen(at + i), mask.begin() + (i + 1) * a->ne[0],
              -std::numeric_limits<float>::infinity());
  }
  return ggml_add(g.ctx(), a, g.constant(std::move(mask), a->ne[0], n));
}

}  // namespace

Result<Scores> attention_columns(LayerView& layer, int64_t n_queries, const ColumnGraph& column) {
  constexpr int64_t kElements = 2 << 20;  // of the attention matrix at a time: 8 MiB
  std::vector<double> sums(static_cast<size_t>(layer.n_tokens * layer.n_head()), 0.0);
  const int64_t n_rows = std::clamp<int64_t>(kElements / (layer.n_tokens * layer.n_head()), 1, 64);
  int64_t begin = layer.n_queries() - n_queries;
  while (begin < layer.n_queries() && layer.n_seen(begin) == 0) ++begin;  // all that it saw is gone
  for (int64_t at = begin; at < layer.n_queries(); at += n_rows) {
    const int64_t n = std::min(n_rows, layer.n_queries() - at), n_seen = layer.n_seen(at + n - 1);
    CURDKV_TRY(const auto parts, layer.run([&](ScoreGraph& g) {
      ggml_tensor* a = ggml_mul_mat(g.ctx(), layer.keys(g, 0, n_seen), as_f32(g, layer.queries(g, at, n)));
      a = ggml_soft_max_ext(g.ctx(), masked(g, layer, a, at), nullptr, layer.kq_scale, 0.0f);
      return std::vector<ggml_tensor*>{column(g, a)};
    }));
    for (int64_t h = 0; h < layer.n_head(); ++h) {
      const float* from = parts[0].data() + h * n_seen;
      double* to = sums.data() + h * layer.n_tokens;
      for (int64_t t = 0; t < n_seen; ++t) to[t] += from[t];
    }
  }
  Scores out(layer.n_tokens, layer.n_head());
  std::transform(sums.begin(), sums.end(), out.data().begin(),
                 [](double x) { return static_cast<float>(x); });
  return out;
}

}  // namespace curdkv
