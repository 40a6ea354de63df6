// Attention from queries to come, as far as those of the context tell: many of its queries, from everywhere
// in it and of all heads of a group, are turned to where the context ends, so that all of them see all of it.
// What a token is worth is the root mean square of its weights times its value's norm: rare attention counts
// for more than in a mean, as what is asked for is asked for once. The same measure shares out budgets of
// bytes (ByteShare).
#include "base/try.h"
#include "press/entry.h"

namespace curdkv {
namespace {

class ReferenceAttention : public Scorer {
 public:
  explicit ReferenceAttention(const ParamValues& v)
      : queries_(v.get_int("queries")), sinks_(v.get_int("sinks")) {}

  ScorerNeeds needs() const override { return {.n_queries = ScorerNeeds::kAll, .each_query = true}; }
  int64_t n_sinks() const override { return sinks_; }

  Result<Scores> score(LayerView& layer, const ScoreRequest&) const override {
    CURDKV_TRY(ReferenceWorth worth, layer.reference_worth(queries_));
    return std::move(worth.rows);
  }

 private:
  int64_t queries_, sinks_;
};

std::vector<PressParam> params() {
  return {int_param("queries", 2048, 16, 1 << 16, "reference queries of a KV head's group"),
          int_param("sinks", 4, 0, 1 << 20, "first tokens that are always kept")};
}

}  // namespace

extern const ScorerEntry reference_attention_scorer = {
    "reference_attention", "attention from the context's own queries, put where it ends", "this project",
    params,
    [](const ParamValues& v) -> std::unique_ptr<Scorer> { return std::make_unique<ReferenceAttention>(v); }};

}  // namespace curdkv
