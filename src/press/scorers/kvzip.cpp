// KVzip: a token matters as much as the most attention it gets while the model repeats the context. The
// context is read a second time for it, behind a request to repeat it, chunk by chunk; so prefill takes about
// two to three times as long, and the hidden states of the second reading are held beside those of the first.
// Kim et al., "KVzip: Query-Agnostic KV Cache Compression with Context Reconstruction", NeurIPS 2025 (arXiv
// 2505.23416); kvpress KVzipPress with layerwise=True. Reading both layer by layer, no layer's full cache has
// to wait for the second reading.
#include "press/entry.h"
#include "press/layer_ops.h"

namespace curdkv {
namespace {

class KvZip : public Scorer {
 public:
  explicit KvZip(const ParamValues& v) : sinks_(v.get_int("sinks")) {}

  ScorerNeeds needs() const override { return {.reconstruction = true}; }
  int64_t n_sinks() const override { return sinks_; }

  Result<Scores> score(LayerView& layer, const ScoreRequest&) const override {
    Result<Scores> scores = layer.reconstruction();
    if (scores) fill_tokens(*scores, 0, layer.n_below(sinks_), highest(*scores) + 1);
    return scores;
  }

 private:
  int64_t sinks_;
};

std::vector<PressParam> params() {
  return {int_param("sinks", 4, 0, 1 << 20, "first tokens that are always kept")};
}

}  // namespace

extern const ScorerEntry kvzip_scorer = {
    "kvzip",
    "attention while the context is repeated; reads it twice, so prefill takes 2 to 3 times as long and "
    "holds hidden states twice",
    "KVzip (arXiv 2505.23416); kvpress KVzipPress, layerwise", params,
    [](const ParamValues& v) -> std::unique_ptr<Scorer> { return std::make_unique<KvZip>(v); }};

}  // namespace curdkv
