// KVzip+: KVzip by what a token adds to the hidden states. Its attention while the context is repeated is
// divided by the norm of the layer's (normed) input where the query is, and multiplied by the norm of its
// value behind the output projection, head by head; the highest over queries and a group's heads counts.
// Jegou and Jeblick, "KVzap: Fast, Adaptive, and Faithful KV Cache Pruning", 2026 (arXiv 2601.07891), as what
// KVzap learns to tell; kvpress KVzipPress with kvzip_plus_normalization=True and layerwise=True, which takes
// the layer's input behind its norm. What the second reading takes is told in kvzip.cpp.
#include <algorithm>

#include "base/try.h"
#include "press/entry.h"
#include "press/layer_ops.h"
#include "press/projected_values.h"

namespace curdkv {
namespace {

class KvZipPlus : public Scorer {
 public:
  explicit KvZipPlus(const ParamValues& v) : sinks_(v.get_int("sinks")) {}

  ScorerNeeds needs() const override {
    return {.output_matrix = true, .reconstruction = true, .per_input = true};
  }
  int64_t n_sinks() const override { return sinks_; }

  Result<Scores> score(LayerView& layer, const ScoreRequest&) const override {
    CURDKV_TRY(const Scores attention, layer.reconstruction_per_input());
    CURDKV_TRY(const Scores norms, projected_value_norms(layer, ValueNorm::l2));
    Scores scores(layer.n_tokens, layer.n_head_kv);
    for (int64_t h = 0; h < layer.n_head(); ++h) {
      const auto to = scores.row(h / layer.n_group);
      for (size_t t = 0; t < to.size(); ++t) to[t] = std::max(to[t], attention.row(h)[t] * norms.row(h)[t]);
    }
    fill_tokens(scores, 0, layer.n_below(sinks_), highest(scores) + 1);
    return scores;
  }

 private:
  int64_t sinks_;
};

std::vector<PressParam> params() {
  return {int_param("sinks", 4, 0, 1 << 20, "first tokens that are always kept")};
}

}  // namespace

extern const ScorerEntry kvzip_plus_scorer = {
    "kvzip_plus",
    "KVzip by what tokens add to the hidden states; reads the context twice, so prefill takes 2 to 3 times "
    "as long and holds hidden states twice",
    "KVzip+ (arXiv 2601.07891); kvpress KVzipPress, kvzip_plus_normalization, layerwise", params,
    [](const ParamValues& v) -> std::unique_ptr<Scorer> { return std::make_unique<KvZipPlus>(v); }};

}  // namespace curdkv
