// The baseline every press has to beat: tokens drawn at random, seeded.
#include "press/entry.h"

namespace curdkv {
namespace {

class Random : public Scorer {
 public:
  Result<Scores> score(LayerView& layer, const ScoreRequest& request) const override {
    Scores scores(layer.n_tokens, layer.n_head_kv);
    scores.data() = layer.gaussian(request.seed, layer.n_tokens, 1, layer.n_head_kv);
    return scores;
  }
};

}  // namespace

extern const ScorerEntry random_scorer = {
    "random", "tokens drawn at random, by --seed", "kvpress RandomPress", no_params,
    [](const ParamValues&) -> std::unique_ptr<Scorer> { return std::make_unique<Random>(); }};

}  // namespace curdkv
