#include "press/select.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>

namespace curdkv {

std::vector<Candidate> candidates_of(const Scores& scores, int64_t head) {
  std::vector<Candidate> out(static_cast<size_t>(scores.n_tokens()));
  for (int64_t t = 0; t < scores.n_tokens(); ++t) {
    const float s = scores.at(head, t);
    out[static_cast<size_t>(t)] = {std::isnan(s) ? -std::numeric_limits<float>::infinity() : s,
                                   static_cast<int32_t>(t), static_cast<int32_t>(head)};
  }
  return out;
}

void partition_top(std::vector<Candidate>& candidates, int64_t k) {
  if (k >= static_cast<int64_t>(candidates.size())) return;
  std::nth_element(candidates.begin(), candidates.begin() + k, candidates.end(),
                   [](const Candidate& a, const Candidate& b) {
                     if (a.score != b.score) return a.score > b.score;
                     if (a.token != b.token) return a.token < b.token;
                     return a.head < b.head;
                   });
}

KeptTokens by_head(std::span<const Candidate> candidates, int64_t n_head_kv) {
  KeptTokens kept(static_cast<size_t>(n_head_kv));
  for (const Candidate& c : candidates) kept[static_cast<size_t>(c.head)].push_back(c.token);
  for (auto& tokens : kept) std::sort(tokens.begin(), tokens.end());
  return kept;
}

namespace {

struct Item {
  uint32_t key, token;
};

// Ascends as the score descends; NaN comes last, and both zeros are one.
uint32_t descending_key(float score) {
  if (std::isnan(score)) return std::numeric_limits<uint32_t>::max();
  const auto bits = std::bit_cast<uint32_t>(score + 0.0f);
  return bits >> 31 != 0 ? bits : ~(bits | 0x80000000u);
}

// In the order of their scores, from the highest to the lowest, and of their tokens.
std::vector<Item> in_order(std::span<const float> scores) {
  constexpr unsigned kBits = 11;
  std::vector<Item> items(scores.size()), sorted(scores.size());
  for (size_t t = 0; t < scores.size(); ++t) items[t] = {descending_key(scores[t]), static_cast<uint32_t>(t)};
  for (unsigned shift = 0; shift < 32; shift += kBits) {
    const auto digit = [&](const Item& i) { return i.key >> shift & ((1u << kBits) - 1); };
    std::array<size_t, (1u << kBits) + 1> begin = {};
    for (const Item& i : items) ++begin[digit(i) + 1];
    std::partial_sum(begin.begin(), begin.end(), begin.begin());
    for (const Item& i : items) sorted[begin[digit(i)]++] = i;
    items.swap(sorted);
  }
  return items;
}

}  // namespace

std::vector<int64_t> ranks_of(std::span<const float> scores) {
  std::vector<int64_t> ranks(scores.size());
  const std::vector<Item> items = in_order(scores);
  for (size_t r = 0; r < items.size(); ++r) ranks[items[r].token] = static_cast<int64_t>(r);
  return ranks;
}

void sort_descending(std::vector<float>& scores) {
  std::vector<float> sorted;
  sorted.reserve(scores.size());
  for (const Item& i : in_order(scores)) sorted.push_back(scores[i.token]);
  scores = std::move(sorted);
}

KeptTokens best_of_each_head(const Scores& scores, int64_t k) {
  std::vector<Candidate> all;
  for (int64_t h = 0; h < scores.n_head(); ++h) {
    std::vector<Candidate> head = candidates_of(scores, h);
    partition_top(head, k);
    all.insert(all.end(), head.begin(), head.begin() + k);
  }
  return by_head(all, scores.n_head());
}

}  // namespace curdkv
