#include "press/projected_values.h"

#include "base/try.h"
#include "press/layer_ops.h"

namespace curdkv {
namespace {

// F32 [n_embd, n] to [1, n].
ggml_tensor* norms_of(ggml_context* ctx, ggml_tensor* x, ValueNorm norm) {
  return norm == ValueNorm::l1 ? ggml_sum_rows(ctx, ggml_abs(ctx, x))
                               : ggml_sqrt(ctx, ggml_sum_rows(ctx, ggml_sqr(ctx, x)));
}

}  // namespace

Result<Scores> projected_value_norms(LayerView& layer, ValueNorm norm) {
  CURDKV_TRY(const std::vector<float> matrix, layer.output_matrix());
  const int64_t d = layer.d_head_v, n_in = layer.n_head() * d;
  const SliceGraph of_heads = [&](ScoreGraph& g, int64_t first, int64_t n) {  // F32 [n, n_head]
    ggml_context* ctx = g.ctx();
    ggml_tensor* w = g.constant(matrix, n_in, static_cast<int64_t>(matrix.size()) / n_in);
    ggml_tensor* v = as_f32(g, layer.values(g, first, n));
    ggml_tensor* out = nullptr;
    for (int64_t h = 0; h < layer.n_head(); ++h) {
      ggml_tensor* part = ggml_view_2d(ctx, w, d, w->ne[1], w->nb[1], static_cast<size_t>(h * d) * w->nb[0]);
      ggml_tensor* rows =
          ggml_view_2d(ctx, v, d, n, v->nb[1], static_cast<size_t>(h / layer.n_group) * v->nb[2]);
      ggml_tensor* projected = ggml_mul_mat(ctx, ggml_cont(ctx, part), rows);  // [n_embd, n]
      ggml_tensor* norms = ggml_reshape_1d(ctx, norms_of(ctx, projected, norm), n);
      out = out == nullptr ? norms : ggml_concat(ctx, out, norms, 0);
    }
    return out;
  };
  return per_token(layer, 0, layer.n_tokens, layer.n_head(), of_heads);
}

}  // namespace curdkv
