// pyramid: lower layers keep more than higher ones, in equal steps.
// Cai et al., "PyramidKV: Dynamic KV Cache Compression based on Pyramidal Information Funneling", 2024 (arXiv
// 2406.02069); budgets and rounding as kvpress's PyramidKVPress, whose SnapKV window is `floor` here: when no
// pyramid leaves every layer that much, all layers keep the same.
#include <cmath>

#include "press/entry.h"

namespace curdkv {
namespace {

class Pyramid : public LayerBudget {
 public:
  explicit Pyramid(const ParamValues& v) : beta_(v.get_real("beta")), floor_(v.get_real("floor")) {}

  int64_t n_kept(double wanted, int64_t n_tokens, int64_t il, int64_t n_layer) const override {
    const auto n = static_cast<double>(n_tokens);
    double least = wanted / beta_, most = 2 * wanted - least;
    if (most >= n - floor_) {
      most = n - floor_;
      least = 2 * wanted - most;
    }
    if (!(n >= most && most >= least && least >= floor_)) return std::llrint(wanted);
    const double step = n_layer > 1 ? (most - least) / static_cast<double>(n_layer - 1) : 0;
    return std::llrint(most - static_cast<double>(il) * step);  // to even, as Python rounds
  }

 private:
  double beta_, floor_;
};

std::vector<PressParam> params() {
  return {
      real_param("beta", 20, 1, 1e6, "the last layer's budget is the average divided by this, if it can be"),
      int_param("floor", 64, 0, 1 << 20, "tokens per head that every layer keeps, or there is no pyramid")};
}

}  // namespace

extern const LayerBudgetEntry pyramid_layer_budget = {
    "pyramid", "more tokens in lower layers than in higher ones",
    "PyramidKV (arXiv 2406.02069); kvpress PyramidKVPress", params,
    [](const ParamValues& v) -> std::unique_ptr<LayerBudget> { return std::make_unique<Pyramid>(v); }};

}  // namespace curdkv
