// adaptive: the best tokens across all KV heads of a layer, so that heads with much to keep get more room.
// Every head first keeps its own int(alpha * n_kept) best; the rest of the layer's budget goes to whoever
// scores highest. Feng et al., "Ada-KV", 2024, section 3; safeguard and rounding as kvpress's AdaKVPress.
#include <algorithm>

#include "press/entry.h"
#include "press/select.h"

namespace curdkv {
namespace {

class Adaptive : public Selection {
 public:
  explicit Adaptive(double alpha) : alpha_(alpha) {}

  KeptTokens select(const Scores& scores, const Budget& budget) const override {
    const double share = static_cast<double>(budget.n_kept) * alpha_;
    const int64_t n_safe = alpha_ > 0 ? std::max<int64_t>(1, static_cast<int64_t>(share)) : 0;
    std::vector<Candidate> kept, rest;
    for (int64_t h = 0; h < scores.n_head(); ++h) {
      std::vector<Candidate> head = candidates_of(scores, h);
      partition_top(head, n_safe);
      kept.insert(kept.end(), head.begin(), head.begin() + n_safe);
      rest.insert(rest.end(), head.begin() + n_safe, head.end());
    }
    const int64_t n_rest = budget.n_kept * scores.n_head() - static_cast<int64_t>(kept.size());
    partition_top(rest, n_rest);
    kept.insert(kept.end(), rest.begin(), rest.begin() + n_rest);
    return by_head(kept, scores.n_head());
  }

 private:
  double alpha_;
};

std::vector<PressParam> params() {
  return {real_param("alpha", 0.20, 0, 1, "share of the uniform budget that every head keeps in any case")};
}

}  // namespace

extern const SelectionEntry adaptive_selection = {"adaptive",
                                                  "the best tokens across all KV heads of a layer",
                                                  "Ada-KV (arXiv 2407.11550); kvpress AdaKVPress", params,
                                                  [](const ParamValues& v) -> std::unique_ptr<Selection> {
                                                    return std::make_unique<Adaptive>(v.get_real("alpha"));
                                                  }};

}  // namespace curdkv
