// The CUR decomposition itself (section 3.1 of the CurDKV paper; Mahoney and Drineas, "CUR matrix
// decompositions for improved data analysis", PNAS 2009): A ~ C U R with C some columns of A, R some rows of
// A, chosen by leverage. Presses only ask for scores; this is for looking at how well such choices
// reconstruct a matrix.
#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <vector>

#include "curdkv/result.h"

namespace curdkv {

// A singular value decomposition A = U diag(s) V^T, which everything below is made from: the slow part, done
// once.
struct Svd {
  explicit Svd(const Eigen::MatrixXd& a);
  Eigen::MatrixXd u, v;  // [n, min(n, d)], [d, min(n, d)]
  Eigen::VectorXd s;     // descending
  int64_t rank = 0;      // of A, to rounding
};

// Squared leverage scores of rows and columns: row and column norms of the singular vectors that belong to
// the `rank` largest singular values (equations 4 and 5, squared); rank 0: all that are not zero. Each sums
// to that rank.
struct Leverage {
  Eigen::VectorXd rows;     // [n]
  Eigen::VectorXd columns;  // [d]
};
Leverage svd_leverage(const Svd& svd, int64_t rank = 0);

struct CurOptions {
  int64_t n_rows = 0, n_columns = 0;  // to choose, at least 1
  int64_t rank = 0;                   // of the leverage scores, see svd_leverage
  bool sampled = false;  // drawn without replacement, in proportion to leverage; else the highest
  uint64_t seed = 42;    // of the drawing
};

struct CurDecomposition {
  std::vector<int32_t> rows, columns;  // chosen, ascending
  Eigen::MatrixXd c;                   // [n, n_columns]
  Eigen::MatrixXd u;                   // [n_columns, n_rows], the least-squares solution C^+ A R^+
  Eigen::MatrixXd r;                   // [n_rows, d]

  double error(const Eigen::MatrixXd& a) const { return (a - c * u * r).norm(); }  // Frobenius
};

// svd: of A. Errors: bad_argument if A is empty or holds fewer rows or columns than asked for.
Result<CurDecomposition> cur_decompose(const Eigen::MatrixXd& a, const Svd& svd, const CurOptions& options);

// Frobenius error of the best approximation of this rank, by singular values: no CUR of so many rows and
// columns is better.
double best_rank_error(const Svd& svd, int64_t rank);

}  // namespace curdkv
