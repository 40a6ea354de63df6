// An allocation turns one layer's scores into the tokens every KV head keeps. Ties break towards the lower
// position, then the lower head, so the result depends on the scores alone.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace curdkv {

// Scores of one layer, host memory: head h's score of token t is scores[h * n_tokens + t]; larger = keep.
struct LayerScores {
  std::span<const float> scores;  // F32 [n_tokens, n_head_kv]; NaN counts as the lowest
  int64_t n_tokens;
  int64_t n_head_kv;

  float at(int64_t head, int64_t token) const { return scores[static_cast<size_t>(head * n_tokens + token)]; }
};

using KeptTokens = std::vector<std::vector<int32_t>>;  // per KV head, ascending positions

class Allocation {
 public:
  virtual ~Allocation() = default;
  // n_kept: tokens per head on average, 1 <= n_kept <= n_tokens. n_kept * n_head_kv are kept in all.
  virtual KeptTokens select(const LayerScores& scores, int64_t n_kept) const = 0;
};

}  // namespace curdkv
