#include "press/cur_decomposition.h"

#include <Eigen/QR>
#include <Eigen/SVD>
#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "base/format.h"

namespace curdkv {
namespace {

using Matrix = Eigen::MatrixXd;

// k indices: those of the highest weights, ties to the lower; or drawn without replacement, each time in
// proportion to the weights left (Efraimidis and Spirakis, 2006: the k highest of log(u) / w).
std::vector<int32_t> choose(const Eigen::VectorXd& weights, int64_t k, bool sampled, std::mt19937_64& bits) {
  Eigen::VectorXd keys = weights;
  if (sampled) {
    for (double& key : keys) {
      const double u = (static_cast<double>(bits() >> 11) + 0.5) * 0x1p-53;  // in (0, 1)
      key = std::log(u) / std::max(key, 1e-300);
    }
  }
  std::vector<int32_t> order(static_cast<size_t>(weights.size()));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return keys[a] > keys[b]; });
  order.resize(static_cast<size_t>(k));
  std::sort(order.begin(), order.end());
  return order;
}

}  // namespace

Svd::Svd(const Matrix& a) {
  if (a.size() == 0) return;
  const Eigen::JacobiSVD<Matrix> svd(a, Eigen::ComputeThinU | Eigen::ComputeThinV);
  u = svd.matrixU();
  v = svd.matrixV();
  s = svd.singularValues();
  rank = svd.rank();
}

Leverage svd_leverage(const Svd& svd, int64_t rank) {
  const int64_t k = rank > 0 ? std::min(rank, svd.rank) : svd.rank;
  return {svd.u.leftCols(k).rowwise().squaredNorm(), svd.v.leftCols(k).rowwise().squaredNorm()};
}

Result<CurDecomposition> cur_decompose(const Matrix& a, const Svd& svd, const CurOptions& o) {
  if (o.n_rows < 1 || o.n_columns < 1 || o.n_rows > a.rows() || o.n_columns > a.cols()) {
    return Error{
        ErrorCode::bad_argument,
        format("%lld rows and %lld columns cannot be chosen from a matrix of %lld by %lld",
               (long long)o.n_rows, (long long)o.n_columns, (long long)a.rows(), (long long)a.cols())};
  }
  std::mt19937_64 bits(o.seed);
  const Leverage leverage = svd_leverage(svd, o.rank);
  CurDecomposition cur;
  cur.rows = choose(leverage.rows, o.n_rows, o.sampled, bits);
  cur.columns = choose(leverage.columns, o.n_columns, o.sampled, bits);
  cur.c = a(Eigen::all, cur.columns);
  cur.r = a(cur.rows, Eigen::all);
  // min ||A - C U R||: first C X = A, then R^T U^T = X^T, each of least norm where there are many solutions.
  const Matrix x = cur.c.completeOrthogonalDecomposition().solve(a);
  cur.u = Matrix(cur.r.transpose()).completeOrthogonalDecomposition().solve(x.transpose()).transpose();
  return cur;
}

double best_rank_error(const Svd& svd, int64_t rank) {
  return svd.s.tail(std::max<Eigen::Index>(0, svd.s.size() - rank)).norm();
}

}  // namespace curdkv
