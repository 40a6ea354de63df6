#include "press/chunk_attention.h"

#include <algorithm>
#include <cmath>

#include "base/try.h"
#include "press/layer_ops.h"
#include "press/leverage_scores.h"

namespace curdkv {
namespace {

// Column sums of one chunk's attention, F32 [chunk or n, n_head].
ggml_tensor* one_chunk(ScoreGraph& g, LayerView& layer, int64_t first, int64_t n, const NonCausal& o) {
  ggml_context* ctx = g.ctx();
  ggml_tensor* k = as_f32(g, layer.keys(g, first, n));
  ggml_tensor* q = as_f32(g, layer.queries(g, first, n));
  if (!o.corrected_tail && n < o.chunk) {
    const int missing = static_cast<int>(o.chunk - n);
    k = ggml_pad(ctx, k, 0, missing, 0, 0);
    q = ggml_pad(ctx, q, 0, missing, 0, 0);
  }
  ggml_tensor* a = ggml_mul_mat(ctx, k, q);
  a = ggml_soft_max_ext(ctx, a, nullptr, o.scaled ? layer.kq_scale : 1.0f, 0.0f);
  return sum_columns(g, a);
}

// Chunks that one operation takes: so many that it is done in some 50 ms, as the stop flag is looked at
// between operations.
int64_t chunks_at_once(const LayerView& layer, int64_t chunk) {
  constexpr int64_t kMostWork = 2'000'000'000;  // multiplications
  return std::max<int64_t>(1, kMostWork / (chunk * chunk * layer.d_head_k * layer.n_head()));
}

// Column sums of the attention within chunks: [n, n_head].
Result<Scores> chunk_columns(LayerView& layer, int64_t first, int64_t n, const NonCausal& o) {
  Scores out(n, layer.n_head());
  FusedOps* ops = layer.fused();
  const int64_t slice = ops == nullptr ? o.chunk : o.chunk * chunks_at_once(layer, o.chunk);
  for (int64_t at = 0; at < n; at += slice) {
    const int64_t m = std::min(slice, n - at);
    CURDKV_TRY(const auto parts, layer.run([&](ScoreGraph& g) {
      if (ops == nullptr) return std::vector<ggml_tensor*>{one_chunk(g, layer, first + at, m, o)};
      return std::vector<ggml_tensor*>{
          ops->chunk_columns(layer.queries(g, first + at, m), layer.keys(g, first + at, m), o.chunk,
                             o.scaled ? layer.kq_scale : 1.0f, !o.corrected_tail)};
    }));
    const auto width = static_cast<int64_t>(parts[0].size()) / layer.n_head();
    for (int64_t h = 0; h < layer.n_head(); ++h) {
      std::copy_n(parts[0].begin() + h * width, m, out.row(h).begin() + at);
    }
  }
  return out;
}

}  // namespace

Result<Scores> non_causal_attention(LayerView& layer, int64_t first, int64_t n, const NonCausal& o) {
  CURDKV_TRY(const Scores per_head, chunk_columns(layer, first, n, o));
  Scores scores = mean_over_groups(per_head, layer.n_group);
  CURDKV_TRY(const Scores norms,
             row_norms(layer, first, n, layer.n_head_kv,
                       [&](ScoreGraph& g, int64_t at, int64_t m) { return layer.values(g, at, m); }));
  std::transform(scores.data().begin(), scores.data().end(), norms.data().begin(), scores.data().begin(),
                 [](float attention, float square) { return attention * std::sqrt(square); });
  scores = moving_average(scores, 3, Ends::zeros);
  standardise(scores);
  return scores;
}

Result<Scores> sketched_key_leverage(LayerView& layer, int64_t first, int64_t n, int64_t rank,
                                     uint64_t seed) {
  std::vector<float> sketch = layer.gaussian(seed, layer.d_head_k, rank, layer.n_head_kv);
  for (float& x : sketch) x /= std::sqrt(static_cast<float>(rank));
  const SliceGraph sketched = [&](ScoreGraph& g, int64_t at, int64_t m) {
    ggml_tensor* x = layer.without_rope(g, layer.keys(g, at, m), at);
    return ggml_mul_mat(g.ctx(), g.constant(sketch, layer.d_head_k, rank, layer.n_head_kv), x);
  };
  CURDKV_TRY(
      const std::vector<double> sum,
      sum_slices(layer, first, n,
                 [&](ScoreGraph& g, int64_t at, int64_t m) { return sum_columns(g, sketched(g, at, m)); },
                 {static_cast<double>(layer.d_head_k * rank * layer.n_head_kv)}));
  std::vector<float> mean;
  for (double x : sum) mean.push_back(static_cast<float>(x / static_cast<double>(n)));
  CURDKV_TRY(Scores scores, leverage_scores(
                                layer, first, n, rank, layer.n_head_kv, {.absolute = 1e-2},
                                [&](ScoreGraph& g, int64_t at, int64_t m) {
                                  ggml_tensor* centre = g.constant(mean, rank, 1, layer.n_head_kv);
                                  return ggml_sub(g.ctx(), sketched(g, at, m), centre);
                                },
                                true));
  standardise(scores);
  return scores;
}

}  // namespace curdkv
