// Persistence of importance: how often, over a window of the latest tokens, a key got more than an even share
// of the attention (1 / n_tokens). Liu et al., "Scissorhands: Exploiting the Persistence of Importance
// Hypothesis for LLM KV Cache Compression at Test Time", NeurIPS 2023 (arXiv 2305.17118), Algorithm 2:
// history window w, recent window r that is always kept. Counts are averaged over the query heads of a group.
#include <algorithm>

#include "base/try.h"
#include "press/attention_columns.h"
#include "press/entry.h"
#include "press/layer_ops.h"

namespace curdkv {
namespace {

class Scissorhands : public Scorer {
 public:
  explicit Scissorhands(const ParamValues& v) : window_(v.get_int("history")), recent_(v.get_int("recent")) {}

  ScorerNeeds needs() const override { return {.n_queries = window_}; }

  Result<Scores> score(LayerView& layer, const ScoreRequest&) const override {
    const int64_t n_window = std::min(window_, layer.n_queries());
    // Queries that gave a key more than 1 / n_tokens.
    const ColumnGraph count_strong = [&](ScoreGraph& g, ggml_tensor* attention) {
      const float even = 1.0f / static_cast<float>(layer.n_tokens);
      return sum_columns(g, ggml_step(g.ctx(), ggml_scale_bias(g.ctx(), attention, 1.0f, -even)));
    };
    CURDKV_TRY(const Scores counts, attention_columns(layer, n_window, count_strong));
    Scores scores = mean_over_groups(counts, layer.n_group);
    for (float& x : scores.data()) x /= static_cast<float>(n_window);
    fill_tokens(scores, layer.n_tokens - recent_, recent_, 2.0f);
    return scores;
  }

 private:
  int64_t window_, recent_;
};

std::vector<PressParam> params() {
  return {int_param("history", 400, 1, 1 << 20, "latest tokens whose attention is looked at"),
          int_param("recent", 10, 0, 1 << 20, "last tokens that are kept before any other")};
}

}  // namespace

extern const ScorerEntry scissorshands_scorer = {
    "scissorshands", "how often the latest tokens attended more than evenly",
    "Scissorhands (arXiv 2305.17118), Algorithm 2", params,
    [](const ParamValues& v) -> std::unique_ptr<Scorer> { return std::make_unique<Scissorhands>(v); }};

}  // namespace curdkv
