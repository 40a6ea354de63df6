#include "press/leverage_scores.h"

#include <Eigen/Cholesky>

#include "base/try.h"

namespace curdkv {
namespace {

using Matrix = Eigen::MatrixXd;  // column-major: [d, d] in ggml order is its transpose

// Multiplications a token takes in products with [d, d] matrices.
double work_of(int64_t d, int64_t n_head) {
  return static_cast<double>(d) * static_cast<double>(d) * static_cast<double>(n_head);
}

// Gram matrices of all heads, rows multiplied by `whiten` first when there is any.
Result<std::vector<Matrix>> gram(LayerView& layer, int64_t begin, int64_t count, int64_t d, int64_t n_head,
                                 const SliceGraph& rows) {
  CURDKV_TRY(const std::vector<double> flat,
             sum_slices(
                 layer, begin, count,
                 [&](ScoreGraph& g, int64_t first, int64_t n) { return gram_matrix(g, rows(g, first, n)); },
                 work_of(d, n_head)));
  std::vector<Matrix> out;
  for (int64_t h = 0; h < n_head; ++h) {
    const Matrix m = Eigen::Map<const Matrix>(flat.data() + h * d * d, d, d);
    out.push_back(0.5 * (m + m.transpose()));
  }
  return out;
}

// L^-1 of G = L L^T.
Matrix inverse_factor(const Matrix& gram) {
  return Eigen::LLT<Matrix>(gram).matrixL().solve(Matrix::Identity(gram.rows(), gram.rows()));
}

// Multiplies rows by each head's matrix: x to W x.
SliceGraph times(const std::vector<Matrix>& w, const SliceGraph& rows) {
  std::vector<float> data;
  for (const Matrix& m : w) {
    for (Eigen::Index r = 0; r < m.rows(); ++r) {
      for (Eigen::Index c = 0; c < m.cols(); ++c) data.push_back(static_cast<float>(m(r, c)));
    }
  }
  const int64_t d = w[0].cols(), rank = w[0].rows(), n_head = static_cast<int64_t>(w.size());
  return [=](ScoreGraph& g, int64_t first, int64_t n) {
    return ggml_mul_mat(g.ctx(), g.constant(data, d, rank, n_head), rows(g, first, n));
  };
}

}  // namespace

Result<Scores> leverage_scores(LayerView& layer, int64_t begin, int64_t count, int64_t d, int64_t n_head,
                               Ridge ridge, const SliceGraph& rows) {
  CURDKV_TRY(const std::vector<Matrix> grams, gram(layer, begin, count, d, n_head, rows));
  const Matrix one = Matrix::Identity(d, d);
  constexpr double kFloor = 1e-5;  // of the mean eigenvalue: what F32 sums still tell from nothing
  bool again = false;
  std::vector<Matrix> whiten;
  std::vector<double> added;
  for (const Matrix& g : grams) {
    const double mean = g.trace() / static_cast<double>(d);
    added.push_back(ridge.of_mean * mean + ridge.absolute);
    again = again || added.back() < 1e-3 * mean;
    whiten.push_back(inverse_factor(g + std::max(added.back(), kFloor * mean + 1e-30) * one));
  }
  if (again) {
    CURDKV_TRY(const std::vector<Matrix> second, gram(layer, begin, count, d, n_head, times(whiten, rows)));
    for (size_t h = 0; h < second.size(); ++h) {
      // The ridge as whitened rows see it; of none, enough to count directions as empty that hold rounding
      // alone.
      const Matrix seen =
          added[h] > 0 ? Matrix(added[h] * whiten[h] * whiten[h].transpose()) : Matrix(1e-6 * one);
      whiten[h] = inverse_factor(second[h] + seen) * whiten[h];
    }
  }
  const SliceGraph whitened = times(whiten, rows);
  return per_token(
      layer, begin, count, n_head,
      [&](ScoreGraph& g, int64_t first, int64_t n) { return squared_norms(g, whitened(g, first, n)); },
      work_of(d, n_head));
}

}  // namespace curdkv
