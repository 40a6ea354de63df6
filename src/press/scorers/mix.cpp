// Two scorers that share the budget: tokens are ranked by each, and the two rankings are interleaved so that
// of any budget `share` comes from the first and the rest from the second. What both rank high is kept once.
#include <algorithm>

#include "base/try.h"
#include "press/entry.h"
#include "press/select.h"

namespace curdkv {
namespace {

class Mix : public Scorer {
 public:
  explicit Mix(const ParamValues& v)
      : first_(make_scorer(v, "first")), second_(make_scorer(v, "second")), share_(v.get_real("share")) {}

  ScorerNeeds needs() const override { return first_->needs() | second_->needs(); }
  int64_t n_sinks() const override { return std::max(first_->n_sinks(), second_->n_sinks()); }

  Result<Scores> score(LayerView& layer, const ScoreRequest& request) const override {
    CURDKV_TRY(const Scores a, first_->score(layer, request));
    CURDKV_TRY(const Scores b, second_->score(layer, request));
    Scores scores(layer.n_tokens, layer.n_head_kv);
    CURDKV_CHECK(layer.in_parallel(layer.n_head_kv, [&](int64_t h) {
      const std::vector<int64_t> ra = ranks_of(a.row(h)), rb = ranks_of(b.row(h));
      for (size_t t = 0; t < ra.size(); ++t) {
        // The budget at which one of the two brings the token in.
        const double turn = std::min(turn_of(ra[t], share_), turn_of(rb[t], 1 - share_));
        scores.row(h)[t] = static_cast<float>(-turn / static_cast<double>(layer.n_tokens));
      }
    }));
    return scores;
  }

 private:
  static double turn_of(int64_t rank, double share) {
    return share > 0 ? (static_cast<double>(rank) + 0.5) / share : 1e18;
  }

  std::unique_ptr<Scorer> first_, second_;
  double share_;
};

std::vector<PressParam> params() {
  return {scorer_param("first", "leverage", "scorer of the first share; its parameters as first.NAME"),
          scorer_param("second", "noncausal_attention", "scorer of the rest; its parameters as second.NAME"),
          real_param("share", 0.7, 0, 1, "share of the budget that the first gets")};
}

}  // namespace

extern const ScorerEntry mix_scorer = {
    "mix", "two scorers sharing the budget, interleaved by rank", "this project", params,
    [](const ParamValues& v) -> std::unique_ptr<Scorer> { return std::make_unique<Mix>(v); }};

}  // namespace curdkv
