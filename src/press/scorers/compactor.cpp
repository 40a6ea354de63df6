// Compactor: non-causal attention plus `blending` times the leverage of keys before RoPE, both standardised;
// the first and last tokens are kept. blending=-1 is the fraction removed, as in kvpress's CompactorPress.
#include "press/chunk_attention.h"

#include <algorithm>

#include "base/try.h"
#include "press/entry.h"
#include "press/layer_ops.h"

namespace curdkv {
namespace {

class Compactor : public Scorer {
 public:
  explicit Compactor(const ParamValues& v)
      : attention_{.chunk = v.get_int("chunk")},
        rank_(v.get_int("sketch")),
        blending_(v.get_real("blending")),
        sinks_(v.get_int("sinks")),
        recent_(v.get_int("recent")) {}

  ScorerNeeds needs() const override {
    return {.n_queries = ScorerNeeds::kAll, .each_query = true, .budget = blending_ < 0};
  }
  int64_t n_sinks() const override { return sinks_; }

  Result<Scores> score(LayerView& layer, const ScoreRequest& request) const override {
    const int64_t first = layer.n_below(sinks_);
    const int64_t n_last = std::min(recent_, layer.n_tokens - first), n = layer.n_tokens - first - n_last;
    Scores scores(layer.n_tokens, layer.n_head_kv);
    if (n == 0) return scores;
    CURDKV_TRY(const Scores leverage, sketched_key_leverage(layer, first, n, rank_, request.seed));
    CURDKV_TRY(const Scores attention, non_causal_attention(layer, first, n, attention_));
    const auto blending = static_cast<float>(blending_ < 0 ? request.removed : blending_);
    float top = -1e30f;
    for (int64_t h = 0; h < layer.n_head_kv; ++h) {
      for (int64_t t = 0; t < n; ++t) {
        const float x = blending * leverage.at(h, t) + attention.at(h, t);
        scores.row(h)[static_cast<size_t>(first + t)] = x;
        top = std::max(top, x);
      }
    }
    fill_tokens(scores, 0, first, top);
    fill_tokens(scores, layer.n_tokens - n_last, n_last, top);
    return scores;
  }

 private:
  NonCausal attention_;
  int64_t rank_;
  double blending_;
  int64_t sinks_, recent_;
};

std::vector<PressParam> params() {
  return {int_param("chunk", 256, 2, 1 << 14, "tokens that attend to each other"),
          int_param("sketch", 48, 1, 4096, "columns of the Gaussian sketch"),
          real_param("blending", -1, -1, 1e6, "weight of the leverage scores; -1: the fraction removed"),
          int_param("sinks", 8, 0, 1 << 20, "first tokens that are always kept"),
          int_param("recent", 4, 0, 1 << 20, "last tokens that score as high as any")};
}

}  // namespace

extern const ScorerEntry compactor_scorer = {
    "compactor", "non-causal attention and sketched leverage of keys, blended",
    "Compactor (arXiv 2507.08143); kvpress CompactorPress", params,
    [](const ParamValues& v) -> std::unique_ptr<Scorer> { return std::make_unique<Compactor>(v); }};

}  // namespace curdkv
