// What the context's last token attends to, averaged over all heads of the layer.
// Oren et al., "Transformers are Multi-State RNNs", 2024 (arXiv 2401.06104); kvpress TOVAPress, which keeps
// the last token in any case.
#include "base/try.h"
#include "press/attention_columns.h"
#include "press/entry.h"
#include "press/layer_ops.h"

namespace curdkv {
namespace {

class Tova : public Scorer {
 public:
  ScorerNeeds needs() const override { return {.n_queries = 1}; }

  Result<Scores> score(LayerView& layer, const ScoreRequest&) const override {
    CURDKV_TRY(const Scores sums, attention_columns(layer, 1, sum_columns));
    Scores all = mean_over_groups(sums, layer.n_head());
    fill_tokens(all, layer.n_tokens - 1, 1, 0.0f);
    fill_tokens(all, layer.n_tokens - 1, 1, highest(all) + 1);
    Scores scores(layer.n_tokens, layer.n_head_kv);
    for (int64_t h = 0; h < layer.n_head_kv; ++h) {
      std::copy(all.row(0).begin(), all.row(0).end(), scores.row(h).begin());
    }
    return scores;
  }
};

}  // namespace

extern const ScorerEntry tova_scorer = {
    "tova", "attention from the context's last token", "TOVA (arXiv 2401.06104); kvpress TOVAPress",
    no_params, [](const ParamValues&) -> std::unique_ptr<Scorer> { return std::make_unique<Tova>(); }};

}  // namespace curdkv
