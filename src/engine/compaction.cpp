// Scoring, selecting and compacting one layer: the three steps between a layer's prefill and the next
// layer's.
#include <algorithm>
#include <numeric>

#include "base/try.h"
#include "engine/prefill.h"
#include "press/random.h"
#include "press/scorer.h"

namespace curdkv {

Result<std::vector<float>> score_tokens(Compute& compute, const Scorer& scorer, const LayerKv& kv,
                                        int64_t n_tokens, const Gaussian& gaussian) {
  const int64_t n_head_kv = kv.k->ne[1];
  ScoreGraph graph(compute.begin());
  const auto by_head = [&](ggml_tensor* x) {  // [d, n_head_kv, n_padded] -> [d, n_tokens, n_head_kv]
    return ggml_view_3d(graph.ctx(), x, x->ne[0], n_tokens, n_head_kv, x->nb[2], x->nb[1], 0);
  };
  ggml_tensor* scores = scorer.build(graph, {by_head(kv.k), by_head(kv.v), gaussian});
  ggml_set_output(scores);
  ggml_build_forward_expand(compute.graph(), scores);
  CURDKV_CHECK(compute.allocate());
  for (const auto& c : graph.constants()) Compute::set(c.tensor, c.data);
  CURDKV_CHECK(compute.run());
  std::vector<float> data(static_cast<size_t>(n_tokens * n_head_kv));
  ggml_backend_tensor_get(scores, data.data(), 0, data.size() * sizeof(float));
  return data;
}

Result<KeptTokens> select_tokens(Compute& compute, const Press& press, const LayerKv& kv, int64_t n_tokens,
                                 int64_t il) {
  const int64_t n_head_kv = kv.k->ne[1];
  const int64_t n_kept = press.n_kept(n_tokens);
  if (!press.is_none() && n_kept < n_tokens) {
    const Gaussian gaussian = [&](int64_t d, int64_t rank, int64_t n) {
      return gaussian_matrices(press.seed(), il, d, rank, n);
    };
    CURDKV_TRY(const std::vector<float> scores,
               score_tokens(compute, *press.scorer(), kv, n_tokens, gaussian));
    return press.allocation()->select({scores, n_tokens, n_head_kv}, n_kept);
  }
  std::vector<int32_t> everything(static_cast<size_t>(n_tokens));
  std::iota(everything.begin(), everything.end(), 0);
  return KeptTokens(static_cast<size_t>(n_head_kv), everything);
}

Result<void> compact(Compute& compute, const LayerKv& kv, const KeptTokens& kept, const RaggedLayer& layer) {
  // Rows of all heads in the cache's order, as row numbers of the flat [d, n_head_kv * n_padded] source.
  const int64_t n_head_kv = kv.k->ne[1];
  std::vector<int32_t> source;
  for (int64_t h = 0; h < n_head_kv; ++h) {
    for (int32_t t : kept[static_cast<size_t>(h)]) source.push_back(static_cast<int32_t>(t * n_head_kv + h));
  }
  constexpr int64_t kSlice = 4096;  // rows at a time: each goes through F32
  const auto n_rows = static_cast<int64_t>(source.size());
  std::vector<std::pair<ggml_tensor*, std::vector<int32_t>>> inputs;
  ggml_context* ctx = compute.begin();
  for (int64_t first = 0; first < n_rows; first += kSlice) {
    const int64_t n = std::min(kSlice, n_rows - first);
    ggml_tensor* rows = ggml_new_tensor_1d(ctx, GGML_TYPE_I32, n);
    ggml_set_input(rows);
    inputs.emplace_back(rows, std::vector<int32_t>(source.begin() + first, source.begin() + first + n));
    for (auto [from, to] : {std::pair{kv.k, layer.k}, std::pair{kv.v, layer.v}}) {
      ggml_tensor* flat = ggml_reshape_2d(ctx, from, from->ne[0], from->ne[1] * from->ne[2]);
      ggml_tensor* copy = ggml_cpy(ctx, ggml_get_rows(ctx, flat, rows), view_rows(ctx, to, first, n));
      ggml_build_forward_expand(compute.graph(), copy);
    }
  }
  CURDKV_CHECK(compute.allocate());
  for (const auto& [tensor, data] : inputs) Compute::set(tensor, data);
  return compute.run();
}

}  // namespace curdkv
