// One budget of bytes, shared out head by head as layers come, against all heads at once.
#include "press/byte_budget.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <tuple>

namespace curdkv {
namespace {

// By its definition: floors, then rows one by one.
std::vector<int64_t> at_once(const std::vector<RowsOfHead>& heads, double n_bytes, double floor) {
  const double share = floor * n_bytes / static_cast<double>(heads.size());
  std::vector<int64_t> counts;
  std::vector<std::tuple<float, size_t, int64_t>> rest;  // less worth per byte, head, its row's rank
  double left = n_bytes;
  for (size_t h = 0; h < heads.size(); ++h) {
    const RowsOfHead& head = heads[h];
    const auto n = static_cast<int64_t>(share / static_cast<double>(head.row_bytes));
    counts.push_back(std::min(head.n_rows, std::max(n, head.n_fixed)));
    left -= static_cast<double>(counts.back() * head.row_bytes);
    std::vector<float> worth = head.worth;
    std::sort(worth.begin(), worth.end(), std::greater<>());
    for (int64_t r = counts.back(); r < head.n_rows; ++r)
      rest.emplace_back(-worth[static_cast<size_t>(r)] / static_cast<float>(head.row_bytes), h, r);
  }
  std::sort(rest.begin(), rest.end());
  for (const auto& [worth, h, rank] : rest) {
    left -= static_cast<double>(heads[h].row_bytes);
    if (left < 0) break;
    ++counts[h];
  }
  return counts;
}

std::vector<RowsOfHead> some_heads(std::mt19937& rng, bool with_ties) {
  std::vector<RowsOfHead> heads(1 + rng() % 12);
  const int64_t n_rows = 1 + static_cast<int64_t>(rng() % 200);
  constexpr int64_t kBytes[] = {52, 68, 84, 132, 256};
  for (RowsOfHead& head : heads) {
    head.n_rows = n_rows;
    head.row_bytes = kBytes[rng() % 5];
    head.n_fixed = static_cast<int64_t>(rng() % 6);
    for (int64_t r = 0; r < n_rows; ++r) {
      const auto x = static_cast<float>(with_ties ? rng() % 4 : rng() % 1000000);
      head.worth.push_back(with_ties ? x * static_cast<float>(head.row_bytes) : x);
    }
  }
  return heads;
}

TEST(ByteBudget, LayerByLayerIsAllAtOnce) {
  std::mt19937 rng(3);
  for (int i = 0; i < 500; ++i) {
    SCOPED_TRACE(i);
    const std::vector<RowsOfHead> heads = some_heads(rng, i % 3 == 0);
    const auto n_heads = std::ssize(heads);
    const double all = static_cast<double>(n_heads * heads[0].n_rows * 256);
    const double n_bytes = all * static_cast<double>(rng() % 1000) / 1000, floor = (rng() % 10) / 10.0;
    ByteBudget budget(n_bytes, floor, n_heads, 256, 52 * heads[0].n_rows);
    std::vector<int64_t> before, counts;
    for (const RowsOfHead& head : heads) {
      budget.add(head);
      if (rng() % 3 == 0 && &head != &heads.back()) continue;  // two heads of a layer
      counts = budget.counts();
      for (size_t h = 0; h < before.size(); ++h) EXPECT_LE(counts[h], before[h]) << "counts only shrink";
      before = counts;
    }
    EXPECT_EQ(counts, at_once(heads, n_bytes, floor));
  }
}

TEST(ByteBudget, NoNumberIsWorthNothing) {
  ByteBudget budget(2 * 64, 0, 2, 64, 64);
  budget.add({3, 64, 0, {NAN, 1, -INFINITY}});
  budget.add({3, 64, 0, {2, NAN, 0}});
  EXPECT_EQ(budget.counts(), (std::vector<int64_t>{1, 1}));
}

}  // namespace
}  // namespace curdkv
