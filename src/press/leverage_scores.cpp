#include "press/leverage_scores.h"

#include <Eigen/Cholesky>
#include <atomic>

#include "base/try.h"

namespace curdkv {
namespace {

using Matrix = Eigen::MatrixXd;  // column-major: [d, d] in ggml order is its transpose

// Multiplications a token takes in products with [d, d] matrices.
double work_of(int64_t d, int64_t n_head) {
  return static_cast<double>(d) * static_cast<double>(d) * static_cast<double>(n_head);
}

// Gram matrices of all heads.
Result<std::vector<Matrix>> gram(LayerView& layer, int64_t begin, int64_t count, int64_t d, int64_t n_head,
                                 const SliceGraph& rows, bool copies) {
  FusedOps* ops = layer.fused();
  CURDKV_TRY(const std::vector<double> flat,
             sum_slices(
                 layer, begin, count,
                 [&](ScoreGraph& g, int64_t first, int64_t n) {
                   ggml_tensor* x = rows(g, first, n);
                   return ops == nullptr ? gram_matrix(g, as_f32(g, x)) : ops->gram_parts(x);
                 },
                 {work_of(d, n_head), ops == nullptr || copies}, static_cast<size_t>(d * d * n_head)));
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

// The heads' matrices as a constant of a graph, and by it: x to W x.
std::vector<float> flat_of(const std::vector<Matrix>& w) {
  std::vector<float> data;
  data.reserve(w.size() * static_cast<size_t>(w[0].size()));
  for (const Matrix& m : w) {
    for (Eigen::Index r = 0; r < m.rows(); ++r) {
      for (Eigen::Index c = 0; c < m.cols(); ++c) data.push_back(static_cast<float>(m(r, c)));
    }
  }
  return data;
}
ggml_tensor* times(ScoreGraph& g, const std::vector<float>& w, ggml_tensor* rows) {
  const int64_t d = rows->ne[0];
  return ggml_mul_mat(g.ctx(), g.constant(w, d, d, std::ssize(w) / (d * d)), as_f32(g, rows));
}

}  // namespace

Result<Scores> leverage_scores(LayerView& layer, int64_t begin, int64_t count, int64_t d, int64_t n_head,
                               Ridge ridge, const SliceGraph& rows, bool copies) {
  CURDKV_TRY(const std::vector<Matrix> grams, gram(layer, begin, count, d, n_head, rows, copies));
  const Matrix one = Matrix::Identity(d, d);
  constexpr double kFloor = 1e-5;  // of the mean eigenvalue: what F32 sums still tell from nothing
  std::vector<Matrix> whiten(grams.size());
  std::vector<double> added(grams.size());
  std::atomic<bool> again = false;
  CURDKV_CHECK(layer.in_parallel(std::ssize(grams), [&](int64_t head) {
    const auto h = static_cast<size_t>(head);
    const Matrix& g = grams[h];
    const double mean = g.trace() / static_cast<double>(d);
    added[h] = ridge.of_mean * mean + ridge.absolute;
    if (added[h] < 1e-3 * mean) again = true;
    whiten[h] = inverse_factor(g + std::max(added[h], kFloor * mean + 1e-30) * one);
  }));
  if (again) {
    const std::vector<float> w = flat_of(whiten);
    const auto whitened = [&](ScoreGraph& g, int64_t first, int64_t n) {
      return times(g, w, rows(g, first, n));
    };
    CURDKV_TRY(const std::vector<Matrix> second, gram(layer, begin, count, d, n_head, whitened, true));
    for (size_t h = 0; h < second.size(); ++h) {
      // The ridge as whitened rows see it; of none, enough to count directions as empty that hold rounding
      // alone.
      const Matrix seen =
          added[h] > 0 ? Matrix(added[h] * whiten[h] * whiten[h].transpose()) : Matrix(1e-6 * one);
      whiten[h] = inverse_factor(second[h] + seen) * whiten[h];
    }
  }
  FusedOps* ops = layer.fused();
  const std::vector<float> w = flat_of(whiten);
  return per_token(layer, begin, count, n_head,
                   [&](ScoreGraph& g, int64_t first, int64_t n) {
                     return ops == nullptr
                                ? squared_norms(g, times(g, w, rows(g, first, n)))
                                : ops->squared_norms(rows(g, first, n), g.constant(w, d, d, n_head));
                   },
                   {work_of(d, n_head), ops == nullptr || copies});
}

}  // namespace curdkv
