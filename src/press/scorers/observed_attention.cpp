// H2O: the attention a token got from all later ones, accumulated over the whole context. The attention
// matrix is made a few rows at a time, so memory stays linear in the number of tokens. Zhang et al., "H2O:
// Heavy-Hitter Oracle for Efficient Generative Inference of LLMs", 2023 (arXiv 2306.14048). kvpress's
// ObservedAttentionPress divides by the number of tokens that could see the key (mean=true), as early tokens
// are seen by more; the paper compares plain sums (mean=false).
#include "base/try.h"
#include "press/attention_columns.h"
#include "press/entry.h"
#include "press/layer_ops.h"

namespace curdkv {
namespace {

class ObservedAttention : public Scorer {
 public:
  explicit ObservedAttention(const ParamValues& v) : mean_(v.get_bool("mean")) {}

  ScorerNeeds needs() const override { return {.n_queries = ScorerNeeds::kAll}; }

  Result<Scores> score(LayerView& layer, const ScoreRequest&) const override {
    CURDKV_TRY(const Scores sums, attention_columns(layer, layer.n_queries(), sum_columns));
    Scores scores = mean_over_groups(sums, layer.n_group);
    if (!mean_) return scores;
    for (int64_t h = 0; h < scores.n_head(); ++h) {
      for (int64_t t = 0; t < layer.n_tokens; ++t) {
        scores.row(h)[static_cast<size_t>(t)] /= static_cast<float>(std::max<int64_t>(1, layer.n_seeing(t)));
      }
    }
    return scores;
  }

 private:
  bool mean_;
};

std::vector<PressParam> params() {
  return {bool_param("mean", true,
                     "divide by the number of tokens that could attend (kvpress); false: sums (paper)")};
}

}  // namespace

extern const ScorerEntry observed_attention_scorer = {
    "observed_attention", "attention accumulated over the whole context (H2O)",
    "H2O (arXiv 2306.14048); kvpress ObservedAttentionPress", params,
    [](const ParamValues& v) -> std::unique_ptr<Scorer> { return std::make_unique<ObservedAttention>(v); }};

}  // namespace curdkv
