#include "press/layer_ops.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/try.h"

namespace curdkv {
namespace {

// Tokens in a slice: as many as make an F32 copy of all query heads' rows 1 MiB, which the processor's cache
// holds from one step of a graph to the next.
int64_t slice_of(const LayerView& layer) {
  const int64_t row =
      layer.n_head() * std::max(layer.d_head_k, layer.d_head_v) * static_cast<int64_t>(sizeof(float));
  return std::max<int64_t>(64, (int64_t{1} << 20) / row);
}

// Runs `build` on slices of tokens [first, first + n), several in one graph, as starting one takes its time;
// hands over each result with the slice's first token. A slice whose operations would take seconds is made
// smaller, and runs alone: the stop flag is looked at between them.
Result<void> run_slices(LayerView& layer, int64_t first, int64_t n, const SliceCost& cost,
                        const SliceGraph& build,
                        const std::function<void(int64_t at, const std::vector<float>& part)>& take) {
  constexpr double kMostWork = 1e9;    // multiplications of an operation
  constexpr int64_t kUncopied = 8192;  // tokens, for which an operation's threads share the work well
  const int64_t usual = cost.copies ? slice_of(layer) : kUncopied, end = first + n;
  const bool heavy = cost.token_work * static_cast<double>(usual) > kMostWork;
  const int64_t slice =
      heavy ? std::max<int64_t>(1, static_cast<int64_t>(kMostWork / cost.token_work)) : usual;
  const int64_t n_at_once = heavy || !cost.copies ? 1 : 16;
  for (int64_t from = first; from < end; from += n_at_once * slice) {
    const int64_t to = std::min(end, from + n_at_once * slice);
    CURDKV_TRY(const auto parts, layer.run([&](ScoreGraph& graph) {
      std::vector<ggml_tensor*> out;
      for (int64_t at = from; at < to; at += slice) out.push_back(build(graph, at, std::min(slice, to - at)));
      return out;
    }));
    for (size_t i = 0; i < parts.size(); ++i) take(from + static_cast<int64_t>(i) * slice, parts[i]);
  }
  return {};
}

}  // namespace

ggml_tensor* as_f32(ScoreGraph& graph, ggml_tensor* rows) {
  if (rows->type != GGML_TYPE_F32) return ggml_cast(graph.ctx(), rows, GGML_TYPE_F32);
  return ggml_is_contiguous(rows) ? rows : ggml_cont(graph.ctx(), rows);
}

Result<Scores> per_token(LayerView& layer, int64_t first, int64_t n, int64_t n_head, const SliceGraph& build,
                         const SliceCost& cost) {
  Scores out(n, n_head);
  CURDKV_CHECK(run_slices(layer, first, n, cost, build, [&](int64_t at, const std::vector<float>& part) {
    const int64_t m = std::ssize(part) / n_head;
    for (int64_t h = 0; h < n_head; ++h) {
      std::copy_n(part.begin() + h * m, m, out.row(h).begin() + at - first);
    }
  }));
  return out;
}

Result<std::vector<double>> sum_slices(LayerView& layer, int64_t first, int64_t n, const SliceGraph& build,
                                       const SliceCost& cost, size_t size) {
  std::vector<double> sum(size, 0.0);
  CURDKV_CHECK(run_slices(layer, first, n, cost, build, [&](int64_t, const std::vector<float>& part) {
    if (sum.empty()) sum.resize(part.size(), 0.0);
    for (auto at = part.begin(); at != part.end(); at += std::ssize(sum))
      std::transform(sum.begin(), sum.end(), at, sum.begin(), std::plus<>());
  }));
  return sum;
}

ggml_tensor* squared_norms(ScoreGraph& graph, ggml_tensor* rows) {
  // A product with ones: ggml_sum_rows() has one thread do all.
  ggml_tensor* ones = graph.constant(std::vector<float>(static_cast<size_t>(rows->ne[0]), 1.0f), rows->ne[0]);
  ggml_tensor* sums = ggml_mul_mat(graph.ctx(), ones, ggml_sqr(graph.ctx(), rows));
  return ggml_reshape_2d(graph.ctx(), sums, rows->ne[1], rows->ne[2]);
}

ggml_tensor* gram_matrix(ScoreGraph& graph, ggml_tensor* rows) {
  return ggml_out_prod(graph.ctx(), rows, rows);
}

ggml_tensor* sum_columns(ScoreGraph& graph, ggml_tensor* x) {
  std::vector<float> ones(static_cast<size_t>(x->ne[1] * x->ne[2]), 1.0f);
  return ggml_out_prod(graph.ctx(), x, graph.constant(std::move(ones), 1, x->ne[1], x->ne[2]));
}

Result<Scores> row_norms(LayerView& layer, int64_t first, int64_t n, int64_t n_head, const SliceGraph& rows) {
  FusedOps* ops = layer.fused();
  return per_token(layer, first, n, n_head,
                   [&](ScoreGraph& g, int64_t at, int64_t m) {
                     ggml_tensor* x = rows(g, at, m);
                     return ops == nullptr ? squared_norms(g, as_f32(g, x)) : ops->squared_norms(x, nullptr);
                   },
                   {.copies = ops == nullptr});
}

Result<Scores> squared_key_norms(LayerView& layer) {
  return row_norms(layer, 0, layer.n_tokens, layer.n_head_kv,
                   [&](ScoreGraph& g, int64_t first, int64_t n) { return layer.keys(g, first, n); });
}

Result<Scores> squared_value_norms(LayerView& layer) {
  return row_norms(layer, 0, layer.n_tokens, layer.n_head_kv,
                   [&](ScoreGraph& g, int64_t first, int64_t n) { return layer.values(g, first, n); });
}

Scores mean_over_groups(const Scores& scores, int64_t n_group) {
  Scores out(scores.n_tokens(), scores.n_head() / n_group);
  for (int64_t h = 0; h < scores.n_head(); ++h) {
    const auto from = scores.row(h);
    const auto to = out.row(h / n_group);
    for (size_t t = 0; t < to.size(); ++t) to[t] += from[t] / static_cast<float>(n_group);
  }
  return out;
}

Scores moving_average(const Scores& scores, int64_t width, Ends ends) {
  Scores out(scores.n_tokens(), scores.n_head());
  const int64_t half = width / 2;
  for (int64_t h = 0; h < scores.n_head(); ++h) {
    const auto from = scores.row(h);
    for (int64_t t = 0; t < scores.n_tokens(); ++t) {
      const int64_t begin = std::max<int64_t>(0, t - half),
                    end = std::min(scores.n_tokens(), t - half + width);
      const float sum = std::accumulate(from.begin() + begin, from.begin() + end, 0.0f);
      out.row(h)[static_cast<size_t>(t)] =
          sum / static_cast<float>(ends == Ends::zeros ? width : end - begin);
    }
  }
  return out;
}

void standardise(Scores& scores) {
  std::vector<float>& x = scores.data();
  if (x.empty()) return;
  const auto n = static_cast<double>(x.size());
  const double mean = std::accumulate(x.begin(), x.end(), 0.0) / n;
  double squares = 0;
  for (float v : x) squares += (v - mean) * (v - mean);
  const double deviation = n > 1 ? std::max(std::sqrt(squares / (n - 1)), 1e-6) : 1.0;
  for (float& v : x) v = static_cast<float>((v - mean) / deviation);
}

void fill_tokens(Scores& scores, int64_t first, int64_t n, float value) {
  for (int64_t h = 0; h < scores.n_head(); ++h) {
    for (int64_t t = std::max<int64_t>(0, first); t < std::min(scores.n_tokens(), first + n); ++t) {
      scores.row(h)[static_cast<size_t>(t)] = value;
    }
  }
}

float highest(const Scores& scores) {
  return scores.data().empty() ? 0 : *std::max_element(scores.data().begin(), scores.data().end());
}

void keep_latest(Scores& scores, int64_t n, float top) {
  for (int64_t h = 0; h < scores.n_head(); ++h) {
    const auto row = scores.row(h).last(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i) {
      const double hair = 1e-6 * static_cast<double>(i) / static_cast<double>(n);
      row[static_cast<size_t>(i)] = static_cast<float>(top * (1 + hair));
    }
  }
}

}  // namespace curdkv
