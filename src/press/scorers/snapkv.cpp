// What the last tokens of the context attend to, smoothed over neighbouring tokens.
// Li et al., "SnapKV: LLM Knows What You are Looking for Before Generation", 2024 (arXiv 2404.14469);
// averaged over the query heads of a group as kvpress's SnapKVPress does. The window itself is always kept.
#include <algorithm>

#include "base/try.h"
#include "press/attention_columns.h"
#include "press/entry.h"
#include "press/layer_ops.h"

namespace curdkv {
namespace {

class SnapKv : public Scorer {
 public:
  explicit SnapKv(const ParamValues& v) : window_(v.get_int("window")), kernel_(v.get_int("kernel")) {}

  ScorerNeeds needs() const override { return {.n_queries = window_}; }

  Result<Scores> score(LayerView& layer, const ScoreRequest&) const override {
    const int64_t n_window = std::min(window_, layer.n_queries()),
                  n_before = layer.n_tokens - std::min(n_window, layer.n_tokens);
    CURDKV_TRY(const Scores sums, attention_columns(layer, n_window, sum_columns));
    const Scores grouped = mean_over_groups(sums, layer.n_group);
    Scores before(n_before, layer.n_head_kv);
    for (int64_t h = 0; h < layer.n_head_kv; ++h) {
      for (int64_t t = 0; t < n_before; ++t) {
        before.row(h)[static_cast<size_t>(t)] = grouped.at(h, t) / static_cast<float>(n_window);
      }
    }
    before = moving_average(before, kernel_, Ends::zeros);
    Scores scores(layer.n_tokens, layer.n_head_kv);
    for (int64_t h = 0; h < layer.n_head_kv; ++h) {
      std::copy(before.row(h).begin(), before.row(h).end(), scores.row(h).begin());
    }
    keep_latest(scores, layer.n_tokens - n_before, highest(before) + 1);
    return scores;
  }

 private:
  int64_t window_, kernel_;
};

std::vector<PressParam> params() {
  return {int_param("window", 64, 1, 1 << 20, "last tokens whose queries are looked at, and which are kept"),
          int_param("kernel", 5, 1, 1 << 20, "tokens the attention is averaged over")};
}

}  // namespace

extern const ScorerEntry snapkv_scorer = {
    "snapkv", "attention from the context's last tokens", "SnapKV (arXiv 2404.14469); kvpress SnapKVPress",
    params, [](const ParamValues& v) -> std::unique_ptr<Scorer> { return std::make_unique<SnapKv>(v); }};

}  // namespace curdkv
