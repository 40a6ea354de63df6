// DropKV: how far the attention's output would move if a token alone were evicted. Without token j the
// softmax shares its weight out among the rest, so that query i gets p_ij / (1 - p_ij) (o_i - v_j) more; the
// squares are summed over the last tokens' queries, averaged over the query heads of a group and smoothed
// over neighbouring tokens. Those last tokens themselves are always kept. "DropKV: KV cache eviction via
// Decoupled Residual-Output Perturbation" (openreview MqfNzH3TVH); kvpress DropKVPress (pull request 285),
// which lifts a smaller budget to the window's size: here it stays, and the latest are kept.
#include <algorithm>

#include "base/try.h"
#include "press/attention_columns.h"
#include "press/entry.h"
#include "press/layer_ops.h"

namespace curdkv {
namespace {

class DropKv : public Scorer {
 public:
  explicit DropKv(const ParamValues& v)
      : window_(v.get_int("window")),
        kernel_(v.get_int("kernel")),
        epsilon_(static_cast<float>(v.get_real("epsilon"))) {}

  ScorerNeeds needs() const override { return {.n_queries = window_}; }

  Result<Scores> score(LayerView& layer, const ScoreRequest&) const override {
    const int64_t n_window = std::min(window_, layer.n_queries());
    CURDKV_TRY(const Scores moved,
               attention_columns(layer, n_window, [&](ScoreGraph& g, ggml_tensor* attention) {
                 return movements(g, layer, attention);
               }));
    Scores scores = moving_average(mean_over_groups(moved, layer.n_group), kernel_, Ends::zeros);
    keep_latest(scores, std::min(n_window, layer.n_tokens), highest(scores) + 1);
    return scores;
  }

 private:
  // Sums over queries of (p / (1 - p + epsilon))^2 |v - o|^2: [n, 1, n_head] of p, F32 [n, m, n_head].
  // As o comes close to a v that takes nearly all of it, rounding would leave nothing of their difference. So
  // where p > 1/2, v is compared with o', what the others would say alone: p / (1 - p) (v - o) = p (v - o').
  ggml_tensor* movements(ScoreGraph& g, LayerView& layer, ggml_tensor* p) const {
    ggml_context* ctx = g.ctx();
    ggml_tensor* v = as_f32(g, layer.values(g, 0, p->ne[0]));
    ggml_tensor* v_columns = ggml_cont(ctx, ggml_transpose(ctx, v));  // [n, d_head_v, n_head_kv]
    ggml_tensor* most = ggml_mul(ctx, p, ggml_step(ctx, ggml_scale_bias(ctx, p, 1.0f, -0.5f)));
    ggml_tensor* rest = ggml_sub(ctx, p, most);
    ggml_tensor* left = ggml_sum_rows(ctx, rest);  // [1, m, n_head]: 1 - p of the one above 1/2
    ggml_tensor* others = ggml_div(ctx, ggml_mul_mat(ctx, v_columns, rest), plus(ctx, left, 0));
    ggml_tensor* of_rest = ggml_div(ctx, rest, ggml_scale_bias(ctx, rest, -1.0f, 1.0f + epsilon_));
    ggml_tensor* of_most = ggml_mul(ctx, most, ggml_div(ctx, left, plus(ctx, left, epsilon_)));
    const auto squares = [&](ggml_tensor* weight, ggml_tensor* o) {
      return ggml_mul(ctx, ggml_sqr(ctx, weight), distances(g, layer, v, o));
    };
    return sum_columns(
        g, ggml_add(ctx, squares(of_rest, ggml_mul_mat(ctx, v_columns, p)), squares(of_most, others)));
  }

  // x + y, and never 0.
  static ggml_tensor* plus(ggml_context* ctx, ggml_tensor* x, float y) {
    return ggml_scale_bias(ctx, x, 1.0f, y + 1e-30f);
  }

  // |v - o|^2 of all pairs: v: F32 [d, n, n_head_kv], o: F32 [d, m, n_head], the result F32 [n, m, n_head].
  static ggml_tensor* distances(ScoreGraph& g, const LayerView& layer, ggml_tensor* v, ggml_tensor* o) {
    ggml_context* ctx = g.ctx();
    const int64_t n = v->ne[1], m = o->ne[1], group = layer.n_group, n_head_kv = layer.n_head_kv;
    ggml_tensor* vv = ggml_reshape_4d(ctx, squared_norms(g, v), n, 1, 1, n_head_kv);
    ggml_tensor* oo = ggml_reshape_4d(ctx, squared_norms(g, o), 1, m, group, n_head_kv);
    ggml_tensor* vo = ggml_reshape_4d(ctx, ggml_mul_mat(ctx, v, o), n, m, group, n_head_kv);
    ggml_tensor* sum = ggml_add(ctx, ggml_add(ctx, ggml_scale(ctx, vo, -2.0f), vv), oo);
    return ggml_reshape_3d(ctx, ggml_relu(ctx, sum), n, m, group * n_head_kv);
  }

  int64_t window_, kernel_;
  float epsilon_;
};

std::vector<PressParam> params() {
  return {
      int_param("window", 32, 1, 1 << 20, "last tokens whose queries are looked at, and which are kept"),
      int_param("kernel", 7, 1, 1 << 20, "tokens the scores are averaged over"),
      real_param("epsilon", 1e-6, 0, 1, "added to 1 - p, which a token that takes all attention leaves 0")};
}

}  // namespace

extern const ScorerEntry dropkv_scorer = {
    "dropkv", "how far the last tokens' attention would move without the token",
    "DropKV (openreview MqfNzH3TVH); kvpress DropKVPress, pull request 285", params,
    [](const ParamValues& v) -> std::unique_ptr<Scorer> { return std::make_unique<DropKv>(v); }};

}  // namespace curdkv
