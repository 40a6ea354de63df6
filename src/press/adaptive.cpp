// adaptive: the best tokens across all KV heads of a layer, so that heads with much to keep get more room.
// Every head first keeps its own int(alpha * n_kept) best; the rest of the layer's budget goes to whoever
// scores highest. Feng et al., "Ada-KV", 2024, section 3; safeguard and rounding as kvpress's AdaKVPress.
#include "press/allocations.h"
#include "press/select.h"

namespace curdkv {
namespace {

class Adaptive : public Allocation {
 public:
  explicit Adaptive(double alpha) : alpha_(alpha) {}

  KeptTokens select(const LayerScores& scores, int64_t n_kept) const override {
    const int64_t n_safe = static_cast<int64_t>(static_cast<double>(n_kept) * alpha_);
    std::vector<Candidate> kept, rest;
    for (int64_t h = 0; h < scores.n_head_kv; ++h) {
      std::vector<Candidate> head = candidates_of(scores, h);
      partition_top(head, n_safe);
      kept.insert(kept.end(), head.begin(), head.begin() + n_safe);
      rest.insert(rest.end(), head.begin() + n_safe, head.end());
    }
    const int64_t n_rest = n_kept * scores.n_head_kv - static_cast<int64_t>(kept.size());
    partition_top(rest, n_rest);
    kept.insert(kept.end(), rest.begin(), rest.begin() + n_rest);
    return by_head(kept, scores.n_head_kv);
  }

 private:
  double alpha_;
};

}  // namespace

std::vector<PressParam> adaptive_params() {
  return {real_param("alpha", 0.20, 0, 1, "share of the uniform budget that every head keeps in any case")};
}

std::unique_ptr<Allocation> make_adaptive(const ParamValues& values) {
  return std::make_unique<Adaptive>(values.get_real("alpha"));
}

}  // namespace curdkv
