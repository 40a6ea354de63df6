// uniform: every KV head keeps its own n_kept best tokens.
#include "press/entry.h"
#include "press/select.h"

namespace curdkv {
namespace {

class Uniform : public Allocation {
 public:
  KeptTokens select(const Scores& scores, const Budget& budget) const override {
    return best_of_each_head(scores, budget.n_kept);
  }
};

}  // namespace

extern const AllocationEntry uniform_allocation = {
    "uniform", "the same number of tokens for every KV head", "", no_params,
    [](const ParamValues&) -> std::unique_ptr<Allocation> { return std::make_unique<Uniform>(); }};

}  // namespace curdkv
