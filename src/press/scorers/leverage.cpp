// Leverage scores themselves, without CurDKV's approximation by row norms: how much of a direction of the row
// space a token is alone in holding. The paper's equations 4 and 5 (section 3.2) ask for the leverage scores
// of K and of V; they are the diagonal of A (A^T A)^-1 A^T, cheap through a d x d Cholesky factor. `ridge` is
// lambda in A (A^T A + lambda m I)^-1 A^T, with m the mean of the Gram matrix's diagonal: 0 is exact, and the
// larger it is the closer the scores come to the row norms that CurDKV takes. `smooth` averages over
// neighbouring tokens, as what is worth keeping is words, not tokens.
#include <algorithm>

#include "base/try.h"
#include "press/entry.h"
#include "press/leverage_scores.h"

namespace curdkv {
namespace {

class Leverage : public Scorer {
 public:
  explicit Leverage(const ParamValues& v)
      : of_(v.get_text("of")),
        ridge_(v.get_real("ridge")),
        smooth_(v.get_int("smooth")),
        sinks_(v.get_int("sinks")) {}

  int64_t n_sinks() const override { return sinks_; }

  Result<Scores> score(LayerView& layer, const ScoreRequest&) const override {
    Scores scores(layer.n_tokens, layer.n_head_kv, 1.0f);
    if (of_ != "value") {
      CURDKV_TRY(scores, leverage_scores(
                             layer, 0, layer.n_tokens, layer.d_head_k, layer.n_head_kv, {.of_mean = ridge_},
                             [&](ScoreGraph& g, int64_t first, int64_t n) { return layer.keys(g, first, n); },
                             false));
    }
    if (of_ != "key") {
      CURDKV_TRY(
          const Scores v,
          leverage_scores(
              layer, 0, layer.n_tokens, layer.d_head_v, layer.n_head_kv, {.of_mean = ridge_},
              [&](ScoreGraph& g, int64_t first, int64_t n) { return layer.values(g, first, n); }, false));
      std::transform(scores.data().begin(), scores.data().end(), v.data().begin(), scores.data().begin(),
                     std::multiplies<>());
    }
    if (smooth_ > 1) scores = moving_average(scores, smooth_, Ends::shorter);
    fill_tokens(scores, 0, layer.n_below(sinks_), highest(scores) + 1);
    return scores;
  }

 private:
  std::string of_;
  double ridge_;
  int64_t smooth_, sinks_;
};

std::vector<PressParam> params() {
  return {choice_param("of", "kv_product", {"key", "value", "kv_product"}, "what the leverage scores are of"),
          real_param("ridge", 0, 0, 1e9, "lambda, in units of the Gram diagonal's mean; 0 is exact"),
          int_param("smooth", 1, 1, 1 << 20, "tokens the scores are averaged over; 1: none"),
          int_param("sinks", 4, 0, 1 << 20, "first tokens that are always kept")};
}

}  // namespace

extern const ScorerEntry leverage_scorer = {
    "leverage", "leverage scores of keys and values, exact or with a ridge",
    "CurDKV (NeurIPS 2025), equations 4 and 5", params,
    [](const ParamValues& v) -> std::unique_ptr<Scorer> { return std::make_unique<Leverage>(v); }};

}  // namespace curdkv
