// CurDKV's scorer: approximate leverage scores of keys and values.
//
// Sengupta et al., "Value-Guided KV Compression for LLMs via Approximated CUR Decomposition", NeurIPS 2025,
// Algorithm 1: project K and V of each KV group by a Gaussian G ~ N(0, 1/r) of [d, r], take squared row
// norms, multiply, normalise to a sum of 1, keep the first s tokens as sinks. (projection=true, local=false)
// NVIDIA kvpress's CURPress adds the choice of what to combine (leverage) and a local approximation: the row
// norms of K and of V are each divided by their sum over windows of 16 tokens before they are combined.
//
// A context that is no multiple of the window ends in a short one, whose smaller sum makes CURPress score its
// m tokens about 16/m times too high. tail=parity keeps that, so that results equal the reference's and
// published figures can be reproduced; tail=corrected divides by the mean times the full window instead.
#include "press/scorers.h"

#include <algorithm>
#include <cmath>

namespace curdkv {
namespace {

class CurScorer : public Scorer {
 public:
  explicit CurScorer(const ParamValues& v)
      : leverage_(v.get_text("leverage")),
        projection_(v.get_bool("projection")),
        rank_(v.get_int("rank")),
        local_(v.get_bool("local")),
        window_(v.get_int("window")),
        corrected_tail_(v.get_text("tail") == "corrected"),
        sinks_(v.get_int("sinks")) {}

  int64_t n_sinks() const override { return sinks_; }

  ggml_tensor* build(ScoreGraph& graph, const ScorerInput& in) const override {
    ggml_context* ctx = graph.ctx();
    ggml_tensor* g = nullptr;  // F32 [d, rank, n_head_kv]
    if (projection_) {
      const int64_t d = std::max(in.keys->ne[0], in.values->ne[0]);
      g = graph.constant(in.gaussian(d, rank_, in.keys->ne[2]), d, rank_, in.keys->ne[2]);
      g = ggml_scale(ctx, g, 1 / std::sqrt(static_cast<float>(rank_)));
    }
    const bool use_keys = leverage_ != "value";
    const bool use_values = leverage_ != "key";
    ggml_tensor* k = use_keys ? leverage(graph, in.keys, g) : nullptr;
    ggml_tensor* v = use_values ? leverage(graph, in.values, g) : nullptr;
    ggml_tensor* score = k == nullptr ? v : v == nullptr ? k : nullptr;
    if (leverage_ == "kv_avg") score = ggml_scale(ctx, ggml_add(ctx, k, v), 0.5f);
    if (leverage_ == "kv_product") score = ggml_mul(ctx, k, v);
    score = ggml_div(ctx, score, ggml_sum_rows(ctx, score));  // every head sums to 1
    return raise_sinks(graph, score);
  }

 private:
  // Squared row norms of x, or of x projected: F32 [n_tokens, n_head_kv]; locally normalised if asked for.
  ggml_tensor* leverage(ScoreGraph& graph, ggml_tensor* x, ggml_tensor* g) const {
    ggml_context* ctx = graph.ctx();
    const int64_t n_tokens = x->ne[1], n_head_kv = x->ne[2];
    constexpr int64_t kSlice =
        1024;                      // tokens at a time: F32 copies of all keys at once would double the memory
    ggml_tensor* norms = nullptr;  // F32 [n_head_kv, tokens so far], concatenated along tokens
    for (int64_t first = 0; first < n_tokens; first += kSlice) {
      const int64_t n = std::min(kSlice, n_tokens - first);
      ggml_tensor* slice = ggml_view_3d(ctx, x, x->ne[0], n, n_head_kv, x->nb[1], x->nb[2],
                                        static_cast<size_t>(first) * x->nb[1]);
      slice = ggml_cont(ctx, slice);
      if (slice->type != GGML_TYPE_F32) slice = ggml_cast(ctx, slice, GGML_TYPE_F32);
      if (g != nullptr) {
        ggml_tensor* gd = ggml_view_3d(ctx, g, x->ne[0], g->ne[1], n_head_kv, g->nb[1], g->nb[2], 0);
        slice = ggml_mul_mat(ctx, gd, slice);  // [rank, n, n_head_kv]
      }
      ggml_tensor* sums = ggml_sum_rows(ctx, ggml_sqr(ctx, slice));  // [1, n, n_head_kv]
      sums = ggml_reshape_2d(ctx, sums, n, n_head_kv);
      norms = norms == nullptr ? sums : ggml_concat(ctx, norms, sums, 0);
    }
    return local_ ? divide_by_window(graph, norms) : norms;
  }

  // Divides each entry of F32 [n_tokens, n_head_kv] by the sum of its window.
  ggml_tensor* divide_by_window(ScoreGraph& graph, ggml_tensor* norms) const {
    ggml_context* ctx = graph.ctx();
    const int64_t n_tokens = norms->ne[0], n_head_kv = norms->ne[1];
    const int64_t n_windows = (n_tokens + window_ - 1) / window_, padded = n_windows * window_;
    ggml_tensor* x =
        padded == n_tokens ? norms : ggml_pad(ctx, norms, static_cast<int>(padded - n_tokens), 0, 0, 0);
    x = ggml_reshape_3d(ctx, x, window_, n_windows, n_head_kv);
    x = ggml_div(ctx, x, ggml_sum_rows(ctx, x));
    const int64_t n_last = n_tokens - (n_windows - 1) * window_;
    if (corrected_tail_ && n_last < window_) {
      std::vector<float> weight(static_cast<size_t>(n_windows), 1.0f);
      weight.back() = static_cast<float>(n_last) / static_cast<float>(window_);
      x = ggml_mul(ctx, x, graph.constant(std::move(weight), 1, n_windows));
    }
    x = ggml_reshape_2d(ctx, x, padded, n_head_kv);
    if (padded == n_tokens) return x;
    return ggml_cont(ctx, ggml_view_2d(ctx, x, n_tokens, n_head_kv, x->nb[1], 0));
  }

  // Sets the first tokens of F32 [n_tokens, n_head_kv] to 1; no other exceeds 1, as every head sums to 1.
  ggml_tensor* raise_sinks(ScoreGraph& graph, ggml_tensor* score) const {
    const int64_t n = std::min(sinks_, score->ne[0]);
    if (n == 0) return score;
    std::vector<float> scale(static_cast<size_t>(score->ne[0]), 1.0f), offset(scale.size(), 0.0f);
    std::fill_n(scale.begin(), n, 0.0f);
    std::fill_n(offset.begin(), n, 1.0f);
    score = ggml_mul(graph.ctx(), score, graph.constant(std::move(scale), score->ne[0]));
    return ggml_add(graph.ctx(), score, graph.constant(std::move(offset), score->ne[0]));
  }

  std::string leverage_;
  bool projection_;
  int64_t rank_;
  bool local_;
  int64_t window_;
  bool corrected_tail_;
  int64_t sinks_;
};

}  // namespace

std::vector<PressParam> cur_params() {
  return {
      choice_param("leverage", "kv_product", {"key", "value", "kv_avg", "kv_product"},
                   "what the squared row norms are taken of and how they combine"),
      bool_param("projection", false, "project keys and values by a random Gaussian first (Algorithm 1)"),
      int_param("rank", 20, 1, 4096, "columns of the Gaussian, r in the paper"),
      bool_param("local", true, "normalise within windows before combining (kvpress's local approximation)"),
      int_param("window", 16, 1, 1 << 20, "tokens in a window of the local approximation"),
      choice_param("tail", "parity", {"parity", "corrected"},
                   "short last window: as kvpress, or without its 16/m times too high scores"),
      int_param("sinks", 4, 0, 1 << 20, "first tokens that are always kept"),
  };
}

std::unique_ptr<Scorer> make_cur(const ParamValues& values) {
  return std::make_unique<CurScorer>(values);
}

}  // namespace curdkv
