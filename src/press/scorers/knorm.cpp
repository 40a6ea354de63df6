// Keys of small norm tend to draw much attention: keep those.
// Devoto et al., "A Simple and Effective L2 Norm-Based Strategy for KV Cache Compression", 2024 (arXiv
// 2406.11430); kvpress KnormPress.
#include <cmath>

#include "base/try.h"
#include "press/entry.h"
#include "press/layer_ops.h"

namespace curdkv {
namespace {

class Knorm : public Scorer {
 public:
  Result<Scores> score(LayerView& layer, const ScoreRequest&) const override {
    CURDKV_TRY(Scores scores, squared_key_norms(layer));
    for (float& x : scores.data()) x = -std::sqrt(x);
    return scores;
  }
};

}  // namespace

extern const ScorerEntry knorm_scorer = {
    "knorm", "minus the L2 norm of the key", "Devoto et al. 2024 (arXiv 2406.11430); kvpress KnormPress",
    no_params, [](const ParamValues&) -> std::unique_ptr<Scorer> { return std::make_unique<Knorm>(); }};

}  // namespace curdkv
