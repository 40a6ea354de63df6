#include "press/select.h"

#include <algorithm>
#include <cmath>
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

std::vector<int64_t> ranks_of(std::span<const float> scores) {
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  std::vector<int64_t> ranks(scores.size());
  for (size_t r = 0; r < order.size(); ++r) ranks[order[r]] = static_cast<int64_t>(r);
  return ranks;
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
