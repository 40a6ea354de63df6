// Keys unlike the others: minus the cosine between a key and the mean of all keys, each normalised first.
// Park et al., "KeyDiff: Key Similarity-Based KV Cache Eviction", 2025 (arXiv 2504.15364); kvpress
// KeyDiffPress.
#include <vector>

#include "base/try.h"
#include "press/entry.h"
#include "press/layer_ops.h"

namespace curdkv {
namespace {

class KeyDiff : public Scorer {
 public:
  Result<Scores> score(LayerView& layer, const ScoreRequest&) const override {
    const SliceGraph normalised = [&](ScoreGraph& g, int64_t first, int64_t n) {
      return ggml_l2_norm(g.ctx(), as_f32(g, layer.keys(g, first, n)), 1e-12f);
    };
    CURDKV_TRY(const std::vector<double> sum,
               sum_slices(layer, 0, layer.n_tokens, [&](ScoreGraph& g, int64_t first, int64_t n) {
                 return sum_columns(g, normalised(g, first, n));  // [d, 1, n_head_kv]
               }));
    const std::vector<float> anchor(sum.begin(), sum.end());
    CURDKV_TRY(
        Scores scores,
        per_token(layer, 0, layer.n_tokens, layer.n_head_kv, [&](ScoreGraph& g, int64_t first, int64_t n) {
          ggml_tensor* a = g.constant(anchor, layer.d_head_k, 1, layer.n_head_kv);
          a = ggml_l2_norm(g.ctx(), a, 1e-12f);
          return ggml_mul_mat(g.ctx(), a, normalised(g, first, n));
        }));
    for (float& x : scores.data()) x = -x;
    return scores;
  }
};

}  // namespace

extern const ScorerEntry keydiff_scorer = {
    "keydiff", "how much the key differs from the average key",
    "KeyDiff (arXiv 2504.15364); kvpress KeyDiffPress", no_params,
    [](const ParamValues&) -> std::unique_ptr<Scorer> { return std::make_unique<KeyDiff>(); }};

}  // namespace curdkv
