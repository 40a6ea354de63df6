// Compactor's attention half on its own: what tokens get from all others near them, later ones included.
// Linear in the number of tokens, as tokens attend within chunks only.
#include "press/chunk_attention.h"
#include "press/entry.h"

namespace curdkv {
namespace {

class NoncausalAttention : public Scorer {
 public:
  explicit NoncausalAttention(const ParamValues& v)
      : options_{v.get_int("chunk"), v.get_bool("scaled"), v.get_text("tail") == "corrected"} {}

  ScorerNeeds needs() const override { return {.n_queries = ScorerNeeds::kAll, .each_query = true}; }

  Result<Scores> score(LayerView& layer, const ScoreRequest&) const override {
    return non_causal_attention(layer, 0, layer.n_tokens, options_);
  }

 private:
  NonCausal options_;
};

std::vector<PressParam> params() {
  return {int_param("chunk", 256, 2, 1 << 14, "tokens that attend to each other"),
          bool_param("scaled", false, "divide Q K^T by sqrt(d), which kvpress does not"),
          choice_param("tail", "parity", {"parity", "corrected"},
                       "short last chunk: filled up with zeros as in kvpress, or left short")};
}

}  // namespace

extern const ScorerEntry noncausal_attention_scorer = {
    "noncausal_attention", "attention from all tokens nearby, earlier and later",
    "Compactor (arXiv 2507.08143); kvpress NonCausalAttnPress", params,
    [](const ParamValues& v) -> std::unique_ptr<Scorer> { return std::make_unique<NoncausalAttention>(v); }};

}  // namespace curdkv
