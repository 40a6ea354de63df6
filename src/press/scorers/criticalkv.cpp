// CriticalKV, a second stage over any scorer: the first part of the budget goes by the base's score alone,
// the rest by that score times the L1 norm of the value after the output projection, averaged over the query
// heads of a group. Feng et al., "Identify Critical KV Cache in LLM Inference from an Output Perturbation
// Perspective", 2025 (arXiv 2502.03805); kvpress CriticalKVPress. Meant for bases that are attention, so that
// scores are not negative.
#include <algorithm>
#include <limits>

#include "base/try.h"
#include "press/entry.h"
#include "press/layer_ops.h"
#include "press/projected_values.h"
#include "press/select.h"

namespace curdkv {
namespace {

class CriticalKv : public Scorer {
 public:
  explicit CriticalKv(const ParamValues& v)
      : base_(make_scorer(v, "base")),
        epsilon_(static_cast<float>(v.get_real("epsilon"))),
        first_stage_(v.get_real("first_stage")) {}

  ScorerNeeds needs() const override {
    return base_->needs() | ScorerNeeds{.output_matrix = true, .budget = true};
  }
  int64_t n_sinks() const override { return base_->n_sinks(); }

  Result<Scores> score(LayerView& layer, const ScoreRequest& request) const override {
    CURDKV_TRY(const Scores base, base_->score(layer, request));
    CURDKV_TRY(const Scores of_heads, projected_value_norms(layer, ValueNorm::l1));
    const Scores norms = mean_over_groups(of_heads, layer.n_group);
    const double n_first = (1 - request.removed) * static_cast<double>(layer.n_tokens) * first_stage_;
    const int64_t n = first_stage_ > 0 ? std::max<int64_t>(1, static_cast<int64_t>(n_first)) : 0;
    const KeptTokens first = best_of_each_head(base, std::min(n, layer.n_tokens));
    Scores scores(layer.n_tokens, layer.n_head_kv);
    for (int64_t h = 0; h < layer.n_head_kv; ++h) {
      const auto from = base.row(h);
      const auto to = scores.row(h);
      for (size_t t = 0; t < to.size(); ++t) to[t] = (from[t] + epsilon_) * norms.row(h)[t];
      for (int32_t t : first[static_cast<size_t>(h)])
        to[static_cast<size_t>(t)] = std::numeric_limits<float>::max();
    }
    return scores;
  }

 private:
  std::unique_ptr<Scorer> base_;
  float epsilon_;
  double first_stage_;
};

std::vector<PressParam> params() {
  return {scorer_param("base", "snapkv", "scorer of the first stage; its parameters as base.NAME"),
          real_param("first_stage", 0.5, 0, 1, "share of the budget that goes by the base's score alone"),
          real_param("epsilon", 1e-4, 0, 1, "added to the base's score before the second stage")};
}

}  // namespace

extern const ScorerEntry criticalkv_scorer = {
    "criticalkv", "any scorer, its second half weighed by what values write",
    "CriticalKV (arXiv 2502.03805); kvpress "
    "CriticalKVPress",
    params, [](const ParamValues& v) -> std::unique_ptr<Scorer> { return std::make_unique<CriticalKv>(v); }};

}  // namespace curdkv
