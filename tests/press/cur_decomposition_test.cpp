#include "press/cur_decomposition.h"

#include <gtest/gtest.h>

#include <Eigen/LU>
#include <Eigen/QR>
#include <map>
#include <random>

#include "support/must.h"

namespace curdkv::testing {
namespace {

using Matrix = Eigen::MatrixXd;

Matrix random_matrix(int64_t n, int64_t d, uint32_t seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<double> normal;
  return Matrix::NullaryExpr(n, d, [&] { return normal(rng); });
}

// Singular values fall by a factor, as those of keys and values do.
Matrix falling(int64_t n, int64_t d, double factor, uint32_t seed) {
  const Matrix u = random_matrix(n, d, seed).householderQr().householderQ() * Matrix::Identity(n, d);
  const Matrix v = random_matrix(d, d, seed + 1).householderQr().householderQ();
  Eigen::VectorXd s(d);
  for (int64_t i = 0; i < d; ++i) s[i] = 100 * std::pow(factor, static_cast<double>(i));
  return u * s.asDiagonal() * v.transpose();
}

TEST(CurDecomposition, LeverageIsTheDiagonalOfTheProjection) {
  const Matrix a = random_matrix(40, 6, 1);
  const Matrix hat = a * (a.transpose() * a).inverse() * a.transpose();
  const Leverage all = svd_leverage(Svd(a));
  EXPECT_LE((all.rows - hat.diagonal()).norm(), 1e-10);
  EXPECT_NEAR(all.rows.sum(), 6, 1e-10) << "they sum to the rank";
  EXPECT_LE((all.columns - Eigen::VectorXd::Ones(6)).norm(), 1e-10) << "with full rank no column stands out";
  const Leverage three = svd_leverage(Svd(a), 3);
  EXPECT_NEAR(three.rows.sum(), 3, 1e-10);
  EXPECT_NEAR(three.columns.sum(), 3, 1e-10);
  EXPECT_NEAR(svd_leverage(Svd(a.leftCols(2) * random_matrix(2, 5, 2))).rows.sum(), 2, 1e-8)
      << "zero values do not count";
}

TEST(CurDecomposition, IsExactForLowRank) {
  const Matrix a = random_matrix(60, 5, 3) * random_matrix(5, 20, 4);
  for (const bool sampled : {false, true}) {
    const CurDecomposition cur =
        must(cur_decompose(a, Svd(a), {.n_rows = 5, .n_columns = 5, .sampled = sampled}));
    EXPECT_LE(cur.error(a), 1e-8 * a.norm());
    for (size_t i = 0; i < 5; ++i) {
      EXPECT_EQ(cur.c.col(static_cast<Eigen::Index>(i)), a.col(cur.columns[i])) << "columns of A itself";
      EXPECT_EQ(cur.r.row(static_cast<Eigen::Index>(i)), a.row(cur.rows[i])) << "rows of A itself";
    }
  }
}

TEST(CurDecomposition, UIsTheBestThereIs) {
  const Matrix a = falling(80, 16, 0.8, 5);
  CurDecomposition cur = must(cur_decompose(a, Svd(a), {.n_rows = 8, .n_columns = 6, .rank = 6}));
  const double error = cur.error(a);
  EXPECT_GE(error, best_rank_error(Svd(a), 6));
  EXPECT_LE(error, 4 * best_rank_error(Svd(a), 6));
  for (uint32_t seed = 0; seed < 20; ++seed) {
    CurDecomposition other = cur;
    other.u += 1e-3 * cur.u.norm() * random_matrix(6, 8, 100 + seed).normalized();
    EXPECT_GT(other.error(a), error);
  }
}

TEST(CurDecomposition, MoreRowsAndColumnsReconstructBetter) {
  const Matrix a = falling(200, 32, 0.85, 6);
  double last = a.norm();
  for (const int64_t k : {2, 4, 8, 16, 32}) {
    const CurDecomposition cur = must(cur_decompose(a, Svd(a), {.n_rows = k, .n_columns = k, .rank = k}));
    EXPECT_LT(cur.error(a), last) << k;
    EXPECT_GE(cur.error(a), best_rank_error(Svd(a), k) * (1 - 1e-9)) << k;
    last = cur.error(a);
  }
  EXPECT_LE(last, 1e-8 * a.norm()) << "all columns";
}

TEST(CurDecomposition, SamplesInProportionToLeverage) {
  Matrix a = random_matrix(10, 2, 7);
  a.row(3) *= 5;
  const Svd svd(a);
  const Leverage leverage = svd_leverage(svd);
  std::map<int32_t, int> drawn;
  for (uint64_t seed = 0; seed < 4000; ++seed) {
    const auto cur =
        must(cur_decompose(a, svd, {.n_rows = 1, .n_columns = 1, .sampled = true, .seed = seed}));
    ++drawn[cur.rows[0]];
  }
  for (int32_t i = 0; i < 10; ++i) {
    EXPECT_NEAR(drawn[i] / 4000.0, leverage.rows[i] / leverage.rows.sum(), 0.03) << i;
  }
  const CurOptions same = {.n_rows = 4, .n_columns = 2, .sampled = true, .seed = 9};
  EXPECT_EQ(must(cur_decompose(a, svd, same)).rows, must(cur_decompose(a, svd, same)).rows);
}

TEST(CurDecomposition, RefusesWhatIsNotThere) {
  const Matrix a = random_matrix(4, 3, 8);
  for (const CurOptions& o :
       {CurOptions{.n_rows = 5, .n_columns = 1}, CurOptions{.n_rows = 1, .n_columns = 4},
        CurOptions{.n_rows = 0, .n_columns = 1}}) {
    const auto r = cur_decompose(a, Svd(a), o);
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code, ErrorCode::bad_argument);
  }
  EXPECT_FALSE(cur_decompose(Matrix(), Svd(Matrix()), {.n_rows = 1, .n_columns = 1}));
  const Matrix zero = Matrix::Zero(4, 3);
  EXPECT_EQ(must(cur_decompose(zero, Svd(zero), {.n_rows = 1, .n_columns = 1})).error(zero), 0);
}

}  // namespace
}  // namespace curdkv::testing
