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
#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/try.h"
#include "press/entry.h"
#include "press/layer_ops.h"

namespace curdkv {
namespace {

class Cur : public Scorer {
 public:
  explicit Cur(const ParamValues& v)
      : leverage_(v.get_text("leverage")),
        projection_(v.get_bool("projection")),
        rank_(v.get_int("rank")),
        local_(v.get_bool("local")),
        window_(v.get_int("window")),
        corrected_tail_(v.get_text("tail") == "corrected"),
        sinks_(v.get_int("sinks")) {}

  int64_t n_sinks() const override { return sinks_; }

  Result<Scores> score(LayerView& layer, const ScoreRequest& request) const override {
    std::vector<float> g;  // F32 [d, rank, n_head_kv]
    const int64_t d = std::max(layer.d_head_k, layer.d_head_v);
    if (projection_) {
      g = layer.gaussian(request.seed, d, rank_, layer.n_head_kv);
      for (float& x : g) x /= std::sqrt(static_cast<float>(rank_));
    }
    Scores score;
    if (leverage_ != "value") {
      CURDKV_TRY(score, norms(layer, g, d, [&](ScoreGraph& graph, int64_t first, int64_t n) {
                   return as_f32(graph, layer.keys(graph, first, n));
                 }));
    }
    if (leverage_ != "key") {
      CURDKV_TRY(Scores values, norms(layer, g, d, [&](ScoreGraph& graph, int64_t first, int64_t n) {
                   return as_f32(graph, layer.values(graph, first, n));
                 }));
      score = leverage_ == "value" ? std::move(values) : combine(score, values);
    }
    for (int64_t h = 0; h < score.n_head(); ++h) {  // every head sums to 1
      const auto row = score.row(h);
      const double sum = std::accumulate(row.begin(), row.end(), 0.0);
      for (float& x : row) x = static_cast<float>(x / sum);
    }
    fill_tokens(score, 0, layer.n_below(sinks_), 1.0f);
    return score;
  }

 private:
  // Squared row norms, of the rows projected by g if there is any; locally normalised if asked for.
  Result<Scores> norms(LayerView& layer, const std::vector<float>& g, int64_t d,
                       const SliceGraph& rows) const {
    CURDKV_TRY(Scores out, per_token(layer, 0, layer.n_tokens, layer.n_head_kv,
                                     [&](ScoreGraph& graph, int64_t first, int64_t n) {
                                       ggml_tensor* x = rows(graph, first, n);
                                       if (!g.empty()) x = project(graph, g, d, x);
                                       return squared_norms(graph, x);
                                     }));
    if (local_) divide_by_window(out);
    return out;
  }

  ggml_tensor* project(ScoreGraph& graph, const std::vector<float>& g, int64_t d, ggml_tensor* x) const {
    ggml_tensor* all = graph.constant(g, d, rank_, x->ne[2]);
    all = ggml_view_3d(graph.ctx(), all, x->ne[0], rank_, x->ne[2], all->nb[1], all->nb[2], 0);
    return ggml_mul_mat(graph.ctx(), all, x);  // [rank, n, n_head_kv]
  }

  Scores combine(const Scores& k, const Scores& v) const {
    Scores out = k;
    const bool average = leverage_ == "kv_avg";
    std::transform(k.data().begin(), k.data().end(), v.data().begin(), out.data().begin(),
                   [&](float a, float b) { return average ? (a + b) / 2 : a * b; });
    return out;
  }

  void divide_by_window(Scores& norms) const {
    for (int64_t h = 0; h < norms.n_head(); ++h) {
      for (int64_t first = 0; first < norms.n_tokens(); first += window_) {
        const int64_t n = std::min(window_, norms.n_tokens() - first);
        const auto window = norms.row(h).subspan(static_cast<size_t>(first), static_cast<size_t>(n));
        float sum = std::accumulate(window.begin(), window.end(), 0.0f);
        if (corrected_tail_) sum *= static_cast<float>(window_) / static_cast<float>(n);
        for (float& x : window) x /= sum;
      }
    }
  }

  std::string leverage_;
  bool projection_;
  int64_t rank_;
  bool local_;
  int64_t window_;
  bool corrected_tail_;
  int64_t sinks_;
};

std::vector<PressParam> params() {
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

}  // namespace

extern const ScorerEntry cur_scorer = {
    "cur", "approximate leverage scores of keys and values",
    "CurDKV (NeurIPS 2025), Algorithm 1; kvpress CURPress", params,
    [](const ParamValues& v) -> std::unique_ptr<Scorer> { return std::make_unique<Cur>(v); }};

}  // namespace curdkv
