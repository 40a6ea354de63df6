#include "analysis/reconstruction.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "attention/attention_kernel.h"
#include "base/parallel.h"
#include "base/try.h"
#include "press/cur_decomposition.h"

namespace curdkv::analysis {
namespace {

constexpr int64_t kQueries = 8;  // that share a row

// Some rows of one KV head, side by side.
struct Kept {
  std::vector<int32_t> tokens;
  std::vector<float> k, v;

  Kept(const LayerRows& rows, int64_t head_kv, std::vector<int32_t> kept) : tokens(std::move(kept)) {
    const Rows keys = rows.keys(head_kv), values = rows.values(head_kv);
    k.reserve(tokens.size() * static_cast<size_t>(rows.d_k));
    v.reserve(tokens.size() * static_cast<size_t>(rows.d_v));
    for (const int32_t t : tokens) {
      k.insert(k.end(), keys.row(t).begin(), keys.row(t).end());
      v.insert(v.end(), values.row(t).begin(), values.row(t).end());
    }
  }
};

// Calls sink(t, n_seen, part) for every token of a query head: how many of the kept rows it sees and what its
// attention makes of them, as attend_block() writes it.
template <typename Sink>
void attend(const LayerRows& rows, int64_t head, const Kept& kept, const Sink& sink) {
  const Rows q = rows.queries(head);
  const int64_t n = rows.n_tokens, d_k = rows.d_k, d_v = rows.d_v;
  const auto stride = static_cast<size_t>(d_v + 2);
  std::vector<float> scratch(attention_scratch_floats(kQueries, d_k, d_v)), part(kQueries * stride),
      all(kQueries * stride);
  int64_t n_seen[kQueries], visible[kQueries], seen = 0;
  for (int64_t first = 0; first < n; first += kQueries) {
    const int64_t m = std::min(kQueries, n - first);
    for (int64_t i = 0; i < m; ++i) {
      while (seen < std::ssize(kept.tokens) && kept.tokens[static_cast<size_t>(seen)] <= first + i) ++seen;
      n_seen[i] = seen;
      float* acc = all.data() + static_cast<size_t>(i) * stride;
      std::fill_n(acc, stride, 0.0f);
      acc[0] = -std::numeric_limits<float>::infinity();
    }
    for (int64_t r = 0; r < seen; r += kBlockRows) {
      const int64_t n_rows = std::min(kBlockRows, seen - r);
      for (int64_t i = 0; i < m; ++i) visible[i] = std::clamp<int64_t>(n_seen[i] - r, 0, n_rows);
      attend_block({.q = q.row(first).data(),
                    .n_visible = visible,
                    .n_q = m,
                    .k = reinterpret_cast<const char*>(kept.k.data() + r * d_k),
                    .v = reinterpret_cast<const char*>(kept.v.data() + r * d_v),
                    .k_stride = static_cast<size_t>(d_k) * sizeof(float),
                    .v_stride = static_cast<size_t>(d_v) * sizeof(float),
                    .type_k = GGML_TYPE_F32,
                    .type_v = GGML_TYPE_F32,
                    .n_rows = n_rows,
                    .d_k = d_k,
                    .d_v = d_v},
                   part.data(), stride, scratch.data());
      for (int64_t i = 0; i < m; ++i) {
        fold_block(all.data() + static_cast<size_t>(i) * stride,
                   part.data() + static_cast<size_t>(i) * stride, d_v);
      }
    }
    for (int64_t i = 0; i < m; ++i) sink(first + i, n_seen[i], all.data() + static_cast<size_t>(i) * stride);
  }
}

// Of every key: the sum over the queries t that see it of (q_t . k_j)^2 = k_j^T (sum of q_t q_t^T) k_j, where
// the matrix in the middle grows by a query from key to key, the last first.
std::vector<double> squared_columns(const LayerRows& rows, int64_t head) {
  const Eigen::MatrixXd q = rows.queries(head).cast<double>(),
                        k = rows.keys(head / rows.n_group()).cast<double>();
  Eigen::MatrixXd gram = Eigen::MatrixXd::Zero(rows.d_k, rows.d_k);
  std::vector<double> out(static_cast<size_t>(rows.n_tokens));
  for (int64_t j = rows.n_tokens - 1; j >= 0; --j) {
    gram.noalias() += q.row(j).transpose() * q.row(j);
    out[static_cast<size_t>(j)] = k.row(j) * gram * k.row(j).transpose();
  }
  return out;
}

// What one query head loses. full: its outputs with nothing evicted, [d_v, n_tokens].
HeadLoss head_loss(const LayerRows& rows, int64_t head, const Kept& kept, const float* full,
                   const std::vector<double>& columns) {
  HeadLoss loss;
  double output = 0, zeroed = 0;
  attend(rows, head, kept, [&](int64_t t, int64_t n_seen, const float* part) {
    const double sum = part[1], n_zeros = static_cast<double>(t + 1 - n_seen);
    // Zeros score 0 and add e^0 each; everything is relative to e^max, or to e^0 if that is more.
    const double max = n_seen > 0 ? part[0] : 0, shift = n_zeros > 0 ? std::max(max, 0.0) : max;
    const double scale = std::exp(max - shift), with_zeros = sum * scale + n_zeros * std::exp(-shift);
    for (int64_t d = 0; d < rows.d_v; ++d) {
      const double o = full[t * rows.d_v + d], x = part[d + 2];
      const double gone = o - (sum > 0 ? x / sum : 0), zero = o - x * scale / with_zeros;
      output += gone * gone;
      zeroed += zero * zero;
    }
  });
  loss.output = std::sqrt(output);
  loss.output_zeroed = std::sqrt(zeroed);
  const Rows values = rows.values(head / rows.n_group());
  double qk = 0, v_kept = 0, v_evicted = 0;
  size_t next = 0;
  for (int64_t t = 0; t < rows.n_tokens; ++t) {
    const double v2 = values.row(t).cast<double>().squaredNorm();
    if (next < kept.tokens.size() && kept.tokens[next] == t) {
      v_kept += v2;
      ++next;
    } else {
      v_evicted += v2;
      qk += columns[static_cast<size_t>(t)];
    }
  }
  loss.qk = std::sqrt(qk);
  loss.bound = std::sqrt(static_cast<double>(rows.n_tokens)) * (std::sqrt(v_evicted) + 2 * std::sqrt(v_kept));
  return loss;
}

}  // namespace

Result<Reconstruction> reconstruct(const LayerRows& rows, std::span<const KeptTokens> selections,
                                   int n_threads, const std::atomic<bool>* stop,
                                   const std::function<void(double)>& progress) {
  const auto n_head = static_cast<size_t>(rows.n_head);
  const int64_t n_head_kv = rows.n_head_kv, n_group = rows.n_group(), d_v = rows.d_v;
  Reconstruction out = {std::vector<HeadNorms>(n_head), {selections.size(), std::vector<HeadLoss>(n_head)}};
  std::vector<std::vector<double>> columns(n_head);
  std::vector<float> full(static_cast<size_t>(d_v * rows.n_tokens * rows.n_head));
  const auto outputs_of = [&](int64_t head) { return full.data() + head * rows.n_tokens * d_v; };

  std::vector<int32_t> all(static_cast<size_t>(rows.n_tokens));
  std::iota(all.begin(), all.end(), 0);
  std::vector<Kept> everything;
  for (int64_t g = 0; g < n_head_kv; ++g) everything.emplace_back(rows, g, all);
  bool complete = parallel_for(n_threads, rows.n_head, stop, [&](int64_t head) {
    double squares = 0;
    attend(rows, head, everything[static_cast<size_t>(head / n_group)],
           [&](int64_t t, int64_t, const float* part) {
             float* to = outputs_of(head) + t * d_v;
             for (int64_t d = 0; d < d_v; ++d) {
               to[d] = part[d + 2] / part[1];
               squares += static_cast<double>(to[d]) * static_cast<double>(to[d]);
             }
           });
    const auto h = static_cast<size_t>(head);
    columns[h] = squared_columns(rows, head);
    out.norms[h] = {std::sqrt(std::accumulate(columns[h].begin(), columns[h].end(), 0.0)),
                    std::sqrt(squares)};
  });

  const int64_t n_items = std::ssize(selections) * n_head_kv;
  std::atomic<int64_t> n_done = 0;
  const auto caller = std::this_thread::get_id();
  complete = complete && parallel_for(n_threads, n_items, stop, [&](int64_t i) {
               const auto s = static_cast<size_t>(i / n_head_kv);
               const int64_t g = i % n_head_kv;
               const Kept kept(rows, g, selections[s][static_cast<size_t>(g)]);
               for (int64_t head = g * n_group; head < (g + 1) * n_group; ++head) {
                 const auto h = static_cast<size_t>(head);
                 out.loss[s][h] = head_loss(rows, head, kept, outputs_of(head), columns[h]);
               }
               ++n_done;
               if (progress && std::this_thread::get_id() == caller)
                 progress(static_cast<double>(n_done) / static_cast<double>(n_items));
             });
  if (!complete) return Error{ErrorCode::cancelled, "interrupted"};
  return out;
}

Result<std::vector<LowRank>> low_rank(const LayerRows& rows, int64_t head_kv,
                                      std::span<const int64_t> ranks) {
  std::vector<LowRank> out(ranks.size());
  const auto errors = [&](const Rows& x, double LowRank::*best, double LowRank::*cur) -> Result<void> {
    const Eigen::MatrixXd a = x.cast<double>();
    const Svd svd(a);
    const double norm = std::max(a.norm(), 1e-300);
    for (size_t i = 0; i < ranks.size(); ++i) {
      const int64_t k = ranks[i];
      CURDKV_TRY(const CurDecomposition parts,
                 cur_decompose(a, svd, {.n_rows = k, .n_columns = k, .rank = k}));
      out[i].*best = best_rank_error(svd, k) / norm;
      out[i].*cur = parts.error(a) / norm;
    }
    return {};
  };
  CURDKV_CHECK(errors(rows.keys(head_kv), &LowRank::keys_svd, &LowRank::keys_cur));
  CURDKV_CHECK(errors(rows.values(head_kv), &LowRank::values_svd, &LowRank::values_cur));
  return out;
}

}  // namespace curdkv::analysis
