// Keys and values against those that follow: each partition of `lag` tokens is rescaled, channel by channel,
// to the range of the next one; tokens with a large spread over channels carry what the next partition does
// not. Tokens are ranked within their partition, so every partition gives up the same share. The last
// partition has none to be compared with; it is kept, and so are the sinks. Liang et al., "LagKV:
// Lag-Relative Information of the KV Cache Tells Which Tokens Are Important", 2025 (arXiv 2504.04704);
// kvpress LagKVPress (its cross_scoring is cross=true).
#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/try.h"
#include "press/entry.h"
#include "press/layer_ops.h"
#include "press/select.h"

namespace curdkv {
namespace {

class LagKv : public Scorer {
 public:
  explicit LagKv(const ParamValues& v)
      : lag_(v.get_int("lag")), sinks_(v.get_int("sinks")), cross_(v.get_bool("cross")) {}

  int64_t n_sinks() const override { return sinks_; }

  Result<Scores> score(LayerView& layer, const ScoreRequest&) const override {
    Scores scores(layer.n_tokens, layer.n_head_kv, 1.0f);
    const int64_t sinks = layer.n_below(sinks_);
    if (layer.n_tokens < sinks + 2 * lag_) {  // too short to compare: the later the better
      const int64_t n = layer.n_tokens - sinks;
      for (int64_t h = 0; h < layer.n_head_kv; ++h) {
        for (int64_t t = 0; t < n; ++t) {
          scores.row(h)[static_cast<size_t>(sinks + t)] = static_cast<float>(t) / static_cast<float>(n);
        }
      }
      return scores;
    }
    const int64_t n_scored = ((layer.n_tokens - sinks) / lag_ - 1) * lag_;
    CURDKV_TRY(const Scores k,
               spread(layer, sinks, n_scored, layer.d_head_k,
                      [&](ScoreGraph& g, int64_t f, int64_t n) { return layer.keys(g, f, n); }));
    CURDKV_TRY(const Scores v,
               spread(layer, sinks, n_scored, layer.d_head_v,
                      [&](ScoreGraph& g, int64_t f, int64_t n) { return layer.values(g, f, n); }));
    for (int64_t h = 0; h < layer.n_head_kv; ++h) {
      for (int64_t first = 0; first < n_scored; first += lag_) {
        std::vector<float> part = softmax(k, h, first);
        const std::vector<float> other = softmax(v, h, first);
        for (size_t i = 0; i < part.size(); ++i) part[i] = (part[i] + other[i]) / 2;
        if (!cross_) part = ranks(part);
        std::copy(part.begin(), part.end(), scores.row(h).begin() + sinks + first);
      }
    }
    return scores;
  }

 private:
  // Standard deviation over channels of tokens [begin, begin + n), rescaled to the next partition's range:
  // [n, n_head_kv].
  Result<Scores> spread(LayerView& layer, int64_t begin, int64_t n, int64_t d, const SliceGraph& rows) const {
    Scores out(n, layer.n_head_kv);
    for (int64_t first = 0; first < n; first += lag_) {
      CURDKV_TRY(const auto parts, layer.run([&](ScoreGraph& g) {
        ggml_context* ctx = g.ctx();
        ggml_tensor* x = as_f32(g, rows(g, begin + first, lag_));
        ggml_tensor* next = as_f32(g, rows(g, begin + first + lag_, lag_));
        const int lag = static_cast<int>(lag_);
        const auto peak = [&](ggml_tensor* t) {  // maximum over tokens: [d, 1, n_head_kv]
          return ggml_pool_2d(ctx, t, GGML_OP_POOL_MAX, 1, lag, 1, lag, 0, 0);
        };
        ggml_tensor* low = ggml_neg(ctx, peak(ggml_neg(ctx, next)));
        x = ggml_div(ctx, ggml_sub(ctx, x, low), ggml_sub(ctx, peak(next), low));
        x = ggml_sub(ctx, x, ggml_mean(ctx, x));
        return std::vector<ggml_tensor*>{squared_norms(g, x)};
      }));
      for (int64_t h = 0; h < layer.n_head_kv; ++h) {
        for (int64_t t = 0; t < lag_; ++t) {
          const float squares = parts[0][static_cast<size_t>(h * lag_ + t)];
          out.row(h)[static_cast<size_t>(first + t)] = std::sqrt(squares / static_cast<float>(d - 1));
        }
      }
    }
    return out;
  }

  std::vector<float> softmax(const Scores& x, int64_t head, int64_t first) const {
    const auto from = x.row(head).subspan(static_cast<size_t>(first), static_cast<size_t>(lag_));
    const float top = *std::max_element(from.begin(), from.end());
    std::vector<float> out;
    for (float v : from) out.push_back(std::exp(v - top));
    const float sum = std::accumulate(out.begin(), out.end(), 0.0f);
    for (float& v : out) v /= sum;
    return out;
  }

  std::vector<float> ranks(const std::vector<float>& x) const {
    std::vector<float> lowest_first;
    for (float v : x) lowest_first.push_back(-v);
    std::vector<float> out;
    for (int64_t r : ranks_of(lowest_first)) out.push_back(static_cast<float>(r) / static_cast<float>(lag_));
    return out;
  }

  int64_t lag_, sinks_;
  bool cross_;
};

std::vector<PressParam> params() {
  return {int_param("lag", 128, 2, 1 << 20, "tokens in a partition"),
          int_param("sinks", 4, 0, 1 << 20, "first tokens that are always kept"),
          bool_param("cross", false, "compare scores across partitions instead of ranks within each")};
}

}  // namespace

extern const ScorerEntry lagkv_scorer = {
    "lagkv", "spread relative to the tokens that follow", "LagKV (arXiv 2504.04704); kvpress LagKVPress",
    params, [](const ParamValues& v) -> std::unique_ptr<Scorer> { return std::make_unique<LagKv>(v); }};

}  // namespace curdkv
