// bytes: one budget of bytes over all layers and KV heads. What heads get follows from what their rows are
// worth by attention (ByteShare), per byte that a row takes in its head's types; which rows a head keeps is
// the scorer's order.
#include <cmath>

#include "press/entry.h"

namespace curdkv {
namespace {

class Bytes : public LayerBudget {
 public:
  explicit Bytes(const ParamValues& v)
      : share_{v.get_real("floor"), v.get_int("budget_queries"), v.get_bool("induction")} {}

  // What a layer may keep at first: as much as an even share, for scorers whose scores depend on it.
  int64_t n_kept(double wanted, int64_t, int64_t, int64_t) const override { return std::llrint(wanted); }
  const ByteShare* share_of_bytes() const override { return &share_; }

 private:
  ByteShare share_;
};

std::vector<PressParam> params() {
  return {real_param("floor", 0.3, 0, 1, "of an even share of the bytes, what every head gets in any case"),
          int_param("budget_queries", 512, 16, 1 << 16, "reference queries of a KV head's group"),
          bool_param("induction", true, "heads that attend to what followed the last time get more of them")};
}

}  // namespace

extern const LayerBudgetEntry bytes_layer_budget = {
    "bytes", "one budget of bytes over all layers and KV heads, by attention from reference queries",
    "this project", params,
    [](const ParamValues& v) -> std::unique_ptr<LayerBudget> { return std::make_unique<Bytes>(v); }};

}  // namespace curdkv
