#include "press/attention_worth.h"

#include <algorithm>
#include <cmath>

#include "base/try.h"
#include "press/layer_ops.h"

namespace curdkv {

namespace {

// Sums over the queries.
struct Sums {
  explicit Sums(const LayerView& layer)
      : squares(static_cast<size_t>(layer.n_tokens * layer.n_head_kv)),
        induction(static_cast<size_t>(layer.n_head_kv)) {}
  std::vector<double> squares;    // of their weights on every token: [n_tokens, n_head_kv]
  std::vector<double> induction;  // [n_head_kv]
  std::vector<float> norms;       // of values, squared: [n_tokens, n_head_kv]
};

Result<Sums> fused_sums(LayerView& layer, const ReferenceQueries& queries) {
  const int64_t n = layer.n_tokens, n_head = layer.n_head_kv;
  CURDKV_TRY(const auto parts, layer.run([&](ScoreGraph& g) {
    ggml_tensor* q = g.constant(queries.q, layer.d_head_k, queries.n, n_head);
    ggml_tensor* tokens = g.constant({queries.tokens.begin(), queries.tokens.end()}, queries.n);
    ggml_tensor* k = layer.keys(g, 0, n);
    FusedOps& ops = *layer.fused();
    return std::vector<ggml_tensor*>{ops.column_squares(q, tokens, k, layer.kq_scale),
                                     ops.squared_norms(layer.values(g, 0, n), nullptr)};
  }));
  Sums sums(layer);
  sums.norms = parts[1];
  constexpr int64_t kParts = FusedOps::kSquareParts;
  const int64_t width = std::ssize(parts[0]) / (n_head * kParts);
  for (int64_t i = 0; i < n_head * kParts; ++i) {
    const auto column = parts[0].begin() + i * width;
    for (int64_t t = 0; t < n; ++t) sums.squares[static_cast<size_t>(i % n_head * n + t)] += column[t];
    sums.induction[static_cast<size_t>(i % n_head)] += column[width - 1];
  }
  return sums;
}

Result<Sums> sliced_sums(LayerView& layer, const ReferenceQueries& queries) {
  const int64_t n = layer.n_tokens, d = layer.d_head_k, n_head = layer.n_head_kv;
  // Queries at a time: their weights are to stay within a few MiB.
  const int64_t step = std::clamp<int64_t>((int64_t{1} << 20) / (n * n_head), 1, queries.n);
  Sums sums(layer);
  CURDKV_TRY(Scores norms, squared_value_norms(layer));
  sums.norms = std::move(norms.data());
  for (int64_t at = 0; at < queries.n; at += step) {
    const int64_t m = std::min(step, queries.n - at);
    std::vector<float> some;
    for (int64_t h = 0; h < n_head; ++h) {
      const auto first = queries.q.begin() + (h * queries.n + at) * d;
      some.insert(some.end(), first, first + m * d);
    }
    CURDKV_TRY(const auto parts, layer.run([&](ScoreGraph& g) {
      ggml_tensor* weights = ggml_mul_mat(g.ctx(), layer.keys(g, 0, n), g.constant(some, d, m, n_head));
      weights = ggml_soft_max_ext(g.ctx(), weights, nullptr, layer.kq_scale, 0.0f);
      return std::vector<ggml_tensor*>{sum_columns(g, ggml_sqr(g.ctx(), weights)), weights};
    }));
    std::transform(sums.squares.begin(), sums.squares.end(), parts[0].begin(), sums.squares.begin(),
                   std::plus<>());
    for (int64_t i = 0; i < n_head * m; ++i) {
      const int64_t token = queries.tokens[static_cast<size_t>(at + i % m)];
      for (int64_t s = 0; s < std::min<int64_t>(std::ssize(kInduction), n - token); ++s)
        sums.induction[static_cast<size_t>(i / m)] +=
            kInduction[s] * parts[1][static_cast<size_t>(i * n + token + s)];
    }
  }
  return sums;
}

}  // namespace

Result<ReferenceWorth> LayerView::reference_worth(int64_t n_queries) {
  CURDKV_TRY(const ReferenceQueries* queries, reference_queries(n_queries));
  return attention_worth(*this, *queries);
}

Result<ReferenceWorth> attention_worth(LayerView& layer, const ReferenceQueries& queries) {
  CURDKV_TRY(const Sums sums,
             layer.fused() != nullptr ? fused_sums(layer, queries) : sliced_sums(layer, queries));
  Scores rows(layer.n_tokens, layer.n_head_kv);
  const auto n_queries = static_cast<double>(queries.n);
  for (size_t i = 0; i < sums.squares.size(); ++i)
    rows.data()[i] =
        static_cast<float>(std::sqrt(sums.squares[i] / n_queries * static_cast<double>(sums.norms[i])));
  std::vector<float> induction;
  for (const double sum : sums.induction) induction.push_back(static_cast<float>(sum / n_queries));
  return ReferenceWorth{std::move(rows), std::move(induction)};
}

std::vector<float> worth_of_head(const ReferenceWorth& worth, int64_t head, const ByteShare& share) {
  const auto row = worth.rows.row(head);
  std::vector<float> of_head(row.begin(), row.end());
  if (share.induction) {
    constexpr float kLeast = 1e-4f;  // so that rows of heads that look nothing up still differ
    for (float& w : of_head) w *= kLeast + worth.induction[static_cast<size_t>(head)];
  }
  return of_head;
}

}  // namespace curdkv
