// The first tokens and the latest ones, nothing between.
// Xiao et al., "Efficient Streaming Language Models with Attention Sinks", 2023 (arXiv 2309.17453); kvpress
// StreamingLLMPress. The paper numbers positions within the cache. A compressed context keeps its own
// positions here, as in kvpress; while generating, positions are renumbered (keeps_sinks_and_latest).
#include "press/entry.h"
#include "press/layer_ops.h"

namespace curdkv {
namespace {

class StreamingLlm : public Scorer {
 public:
  explicit StreamingLlm(const ParamValues& v) : sinks_(v.get_int("sinks")) {}

  ScorerNeeds needs() const override { return {.budget = true}; }

  Result<Scores> score(LayerView& layer, const ScoreRequest& request) const override {
    Scores scores(layer.n_tokens, layer.n_head_kv, 1.0f);
    fill_tokens(scores, layer.n_below(sinks_), layer.n_tokens - request.n_kept, 0.0f);
    return scores;
  }
  int64_t n_sinks() const override { return sinks_; }
  bool keeps_sinks_and_latest() const override { return true; }

 private:
  int64_t sinks_;
};

std::vector<PressParam> params() {
  return {int_param("sinks", 4, 0, 1 << 20, "first tokens that are always kept")};
}

}  // namespace

extern const ScorerEntry streaming_llm_scorer = {
    "streaming_llm", "the first tokens (sinks) and the latest ones",
    "StreamingLLM (arXiv 2309.17453); kvpress StreamingLLMPress", params,
    [](const ParamValues& v) -> std::unique_ptr<Scorer> { return std::make_unique<StreamingLlm>(v); }};

}  // namespace curdkv
