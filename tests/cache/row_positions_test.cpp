#include "cache/row_positions.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <random>

namespace curdkv::testing {
namespace {

using Numbers = std::vector<int32_t>;

Numbers some(int64_t n, int32_t first, double share, uint32_t seed) {
  std::mt19937 rng(seed);
  Numbers all;
  for (int32_t p = first; std::ssize(all) < n; ++p) {
    if (std::generate_canonical<double, 32>(rng) < share) all.push_back(p);
  }
  return all;
}

TEST(RowPositions, SayWhatTheyWereMadeOf) {
  for (const int64_t n : {0, 1, 31, 32, 33, 1000}) {
    for (const double share : {1.0, 0.5, 0.01}) {
      for (const int32_t first : {0, 5, -70, 100000}) {
        const Numbers all = some(n, first, share, static_cast<uint32_t>(n));
        EXPECT_EQ(RowPositions(all).unpacked(), all) << n << " " << share << " " << first;
      }
    }
  }
  for (const Numbers& all : {Numbers{3, 2, 1},
                             {5, 5, 6, 7},
                             {0, 1, 2, 3, -40, -39, 7},
                             {std::numeric_limits<int32_t>::min(), 0, std::numeric_limits<int32_t>::max()}}) {
    EXPECT_EQ(RowPositions(all).unpacked(), all);
  }
  EXPECT_TRUE(RowPositions().unpacked().empty());
}

TEST(RowPositions, TakeABitForEachPositionOrFourBytesARow) {
  EXPECT_EQ(std::ssize(RowPositions(some(8000, 17, 1, 1)).words()), 2 + 250);
  EXPECT_LE(std::ssize(RowPositions(some(800, 0, 0.1, 1)).words()), 2 + 300);
  EXPECT_EQ(std::ssize(RowPositions(some(50, 0, 0.005, 1)).words()), 2 + 50);
  Numbers turned = some(8000, 0, 1, 1);
  std::swap(turned[0], turned[1]);
  EXPECT_EQ(std::ssize(RowPositions(turned).words()), 2 + 8000);
}

TEST(RowPositions, AreTakenFromWordsOneHeadAfterAnother) {
  const std::vector<Numbers> heads = {some(100, 7, 0.8, 1), {}, some(3, 0, 0.01, 2), {4, 2, 9}};
  Numbers words;
  for (const Numbers& head : heads) {
    const RowPositions positions(head);
    words.insert(words.end(), positions.words().begin(), positions.words().end());
  }
  std::span<const int32_t> rest = words;
  for (const Numbers& head : heads) {
    const auto taken = RowPositions::take(rest, std::ssize(head));
    ASSERT_TRUE(taken);
    EXPECT_EQ(taken->unpacked(), head);
  }
  EXPECT_TRUE(rest.empty());
}

TEST(RowPositions, WordsThatSayOtherwiseAreNotTaken) {
  const RowPositions positions(some(100, 7, 0.8, 1));
  const Numbers right(positions.words().begin(), positions.words().end());
  const auto taken = [](const Numbers& words, int64_t n) {
    std::span<const int32_t> rest = words;
    return RowPositions::take(rest, n).has_value();
  };
  const auto with = [&](size_t i, int32_t word) {
    Numbers words = right;
    words[i] = word;
    return words;
  };
  EXPECT_TRUE(taken(right, 100));
  EXPECT_FALSE(taken(right, 99));
  EXPECT_FALSE(taken(right, -1));
  EXPECT_FALSE(taken({right.begin(), right.end() - 1}, 100)) << "too few words";
  EXPECT_FALSE(taken({right[0]}, 100));
  EXPECT_FALSE(taken(with(1, -1), 100));
  EXPECT_FALSE(taken(with(1, std::numeric_limits<int32_t>::max()), 100));
  EXPECT_FALSE(taken(with(2, right[2] ^ 8), 100)) << "a row more or less";
  EXPECT_FALSE(taken(with(0, std::numeric_limits<int32_t>::max() - 20), 100)) << "beyond 32 bits";
  EXPECT_FALSE(taken({0, 0, 1, 2}, 3));
}

}  // namespace
}  // namespace curdkv::testing
