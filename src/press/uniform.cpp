// uniform: every KV head keeps its own n_kept best tokens.
#include "press/allocations.h"
#include "press/select.h"

namespace curdkv {
namespace {

class Uniform : public Allocation {
 public:
  KeptTokens select(const LayerScores& scores, int64_t n_kept) const override {
    std::vector<Candidate> all;
    for (int64_t h = 0; h < scores.n_head_kv; ++h) {
      std::vector<Candidate> head = candidates_of(scores, h);
      partition_top(head, n_kept);
      all.insert(all.end(), head.begin(), head.begin() + n_kept);
    }
    return by_head(all, scores.n_head_kv);
  }
};

}  // namespace

std::unique_ptr<Allocation> make_uniform(const ParamValues&) {
  return std::make_unique<Uniform>();
}

}  // namespace curdkv
