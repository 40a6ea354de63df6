// uniform: every KV head keeps its own n_kept best tokens.
#include "press/entry.h"
#include "press/select.h"

namespace curdkv {
namespace {

class Uniform : public Selection {
 public:
  KeptTokens select(const Scores& scores, const Budget& budget) const override {
    return best_of_each_head(scores, budget.n_kept);
  }
};

}  // namespace

extern const SelectionEntry uniform_selection = {
    "uniform", "the same number of tokens for every KV head", "", no_params,
    [](const ParamValues&) -> std::unique_ptr<Selection> { return std::make_unique<Uniform>(); }};

}  // namespace curdkv
