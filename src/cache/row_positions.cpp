#include "cache/row_positions.h"

#include <algorithm>
#include <bit>

namespace curdkv {
namespace {

constexpr size_t kHeader = 2;
constexpr int64_t kBits = 32;

}  // namespace

RowPositions::RowPositions(std::span<const int32_t> positions) {
  const auto descends = [](int32_t a, int32_t b) { return a >= b; };
  int64_t n_words = 0;
  if (!positions.empty() &&
      std::adjacent_find(positions.begin(), positions.end(), descends) == positions.end())
    n_words = (int64_t{positions.back()} - positions.front()) / kBits + 1;
  if (n_words == 0 || n_words >= std::ssize(positions)) {
    words_ = {0, 0};
    words_.insert(words_.end(), positions.begin(), positions.end());
    return;
  }
  words_.assign(kHeader + static_cast<size_t>(n_words), 0);
  words_[0] = positions.front();
  words_[1] = static_cast<int32_t>(n_words);
  for (const int32_t position : positions) {
    const int64_t bit = int64_t{position} - positions.front();
    int32_t& word = words_[kHeader + static_cast<size_t>(bit / kBits)];
    word = static_cast<int32_t>(static_cast<uint32_t>(word) | (uint32_t{1} << (bit % kBits)));
  }
}

std::vector<int32_t> RowPositions::unpacked() const {
  std::vector<int32_t> all;
  if (words_.empty()) return all;
  const std::span rest = std::span(words_).subspan(kHeader);
  if (words_[1] == 0) return {rest.begin(), rest.end()};
  for (int64_t w = 0; w < std::ssize(rest); ++w) {
    for (auto bits = static_cast<uint32_t>(rest[static_cast<size_t>(w)]); bits != 0; bits &= bits - 1)
      all.push_back(static_cast<int32_t>(words_[0] + w * kBits + std::countr_zero(bits)));
  }
  return all;
}

std::optional<RowPositions> RowPositions::take(std::span<const int32_t>& words, int64_t n) {
  if (words.size() < kHeader || words[1] < 0) return std::nullopt;
  const int64_t n_words = words[1] > 0 ? words[1] : n;
  if (n < 0 || n_words > std::ssize(words) - static_cast<int64_t>(kHeader)) return std::nullopt;
  const std::span head = words.first(kHeader + static_cast<size_t>(n_words));
  if (words[1] > 0) {
    int64_t n_set = 0;
    for (const int32_t word : head.subspan(kHeader)) n_set += std::popcount(static_cast<uint32_t>(word));
    if (n_set != n || words[0] > INT32_MAX - n_words * kBits) return std::nullopt;
  }
  RowPositions positions;
  positions.words_.assign(head.begin(), head.end());
  words = words.subspan(head.size());
  return positions;
}

}  // namespace curdkv
