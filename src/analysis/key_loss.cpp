#include "analysis/key_loss.h"

#include <algorithm>
#include <cmath>

namespace curdkv::analysis {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr int64_t kQueries = 64;  // at a time
constexpr double kCancelled = 1e-6;

// Softmax of the scores of keys [0, n) but `left_out`, times V.
Eigen::RowVectorXd output_without(const double* scores, int64_t n, int64_t left_out, const Matrix& v) {
  double most = -INFINITY, total = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (i != left_out) most = std::max(most, scores[i]);
  }
  Eigen::RowVectorXd sum = Eigen::RowVectorXd::Zero(v.cols());
  for (int64_t i = 0; i < n; ++i) {
    if (i == left_out) continue;
    const double p = std::exp(scores[i] - most);
    total += p;
    sum += p * v.row(i);
  }
  return total > 0 ? sum / total : sum;
}

}  // namespace

// Without key j, query t's output o becomes o' = (o - a v_j) / (1 - a), where a is its attention to j; so
// o - o' = a / (1 - a) (v_j - o), and one more product, O V^T, gives the loss of every key. Where a is nearly
// 1 that difference is lost to rounding, and o' is computed anew.
KeyLoss key_losses(const LayerRows& rows, int64_t head, const std::atomic<bool>* stop) {
  const int64_t n = rows.n_tokens, head_kv = head / rows.n_group();
  const Matrix k = rows.keys(head_kv).cast<double>(), v = rows.values(head_kv).cast<double>();
  const Eigen::VectorXd v2 = v.rowwise().squaredNorm();
  KeyLoss out = {std::vector<double>(static_cast<size_t>(n)), std::vector<double>(static_cast<size_t>(n))};
  for (int64_t first = 0; first < n && (stop == nullptr || !*stop); first += kQueries) {
    const int64_t m = std::min(kQueries, n - first), seen = first + m;
    const Matrix s = rows.queries(head).middleRows(first, m).cast<double>() * k.topRows(seen).transpose();
    Matrix p = s;
    Eigen::VectorXd total(m);
    for (int64_t i = 0; i < m; ++i) {
      const int64_t visible = first + i + 1;
      auto row = p.row(i).head(visible).array();
      row = (row - row.maxCoeff()).exp();
      p.row(i).tail(seen - visible).setZero();
      total[i] = row.sum();
    }
    const Matrix o = total.cwiseInverse().asDiagonal() * (p * v.topRows(seen));
    const Matrix ov = o * v.topRows(seen).transpose();
    for (int64_t i = 0; i < m; ++i) {
      const double o2 = o.row(i).squaredNorm();
      for (int64_t j = 0; j <= first + i; ++j) {
        const double a = p(i, j) / total[i], rest = (total[i] - p(i, j)) / total[i];
        const auto at = static_cast<size_t>(j);
        out.attention[at] += a;
        out.loss[at] += rest > kCancelled
                            ? std::max(0.0, v2[j] - 2 * ov(i, j) + o2) * (a / rest) * (a / rest)
                            : (o.row(i) - output_without(s.row(i).data(), first + i + 1, j, v)).squaredNorm();
      }
    }
  }
  for (int64_t j = 0; j < n; ++j) {
    out.attention[static_cast<size_t>(j)] /= static_cast<double>(n - j);
    out.loss[static_cast<size_t>(j)] = std::sqrt(out.loss[static_cast<size_t>(j)]);
  }
  return out;
}

}  // namespace curdkv::analysis
