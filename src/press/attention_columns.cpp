#include "press/attention_columns.h"

#include <algorithm>

#include "base/try.h"
#include "press/layer_ops.h"

namespace curdkv {
Result<Scores> attention_columns(LayerView& layer, int64_t first, Column column) {
  constexpr int64_t kElements = 2 << 20;  // of the attention matrix at a time: 8 MiB
  std::vector<double> sums(static_cast<size_t>(layer.n_tokens * layer.n_head()), 0.0);
  const int64_t n_rows = std::clamp<int64_t>(kElements / (layer.n_tokens * layer.n_head()), 1, 64);
  for (int64_t at = first; at < layer.n_tokens; at += n_rows) {
    const int64_t n = std::min(n_rows, layer.n_tokens - at), n_seen = at + n;
    CURDKV_TRY(const auto parts, layer.run([&](ScoreGraph& g) {
      ggml_tensor* a = ggml_mul_mat(g.ctx(), layer.keys(g, 0, n_seen), as_f32(g, layer.queries(g, at, n)));
      a = ggml_diag_mask_inf(g.ctx(), a, static_cast<int>(at));
      a = ggml_soft_max_ext(g.ctx(), a, nullptr, layer.kq_scale, 0.0f);  // F32 [n_seen, n, n_head]
      if (column == Column::count_strong) {
        a = ggml_step(g.ctx(), ggml_scale_bias(g.ctx(), a, 1.0f, -1.0f / static_cast<float>(layer.n_tokens)));
      }
      return std::vector<ggml_tensor*>{sum_columns(g, a)};
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
