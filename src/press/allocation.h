// How room is shared out. A layer budget says how much of it each layer gets; a selection turns a layer's
// scores into the tokens that every KV head keeps. Ties break towards the lower position, then the lower
// head, so the result depends on the scores alone.
#pragma once

#include <cstdint>
#include <vector>

#include "press/scores.h"

namespace curdkv {

using KeptTokens = std::vector<std::vector<int32_t>>;  // per KV head, ascending positions

// What a layer may keep, per head on average.
struct Budget {
  int64_t n_kept;  // whole tokens
  double wanted;   // before rounding: n_tokens (1 - ratio), or the budget in tokens
};

// One budget of bytes over all layers and KV heads: a row is worth what attention from reference queries over
// the whole context makes of it, the root mean square of its weights times its value's norm.
struct ByteShare {
  double floor;         // of an even share of the bytes, what every head gets in any case
  int64_t n_reference;  // queries of a KV head's group
  bool induction;       // whether rows are worth as much more as their head is one that looks things up
};

class LayerBudget {
 public:
  virtual ~LayerBudget() = default;
  // Tokens per head that layer il of n_layer may keep of n_tokens, where `wanted` is the layers' average.
  virtual int64_t n_kept(double wanted, int64_t n_tokens, int64_t il, int64_t n_layer) const = 0;
  // Instead, where counts are known only when all layers are.
  virtual const ByteShare* share_of_bytes() const { return nullptr; }
};

class Selection {
 public:
  virtual ~Selection() = default;
  // NaN counts as the lowest score. 1 <= budget.n_kept <= n_tokens; n_kept * n_head_kv are kept in all, give
  // or take granularity() * n_head_kv.
  virtual KeptTokens select(const Scores& scores, const Budget& budget) const = 0;
  virtual int64_t granularity() const { return 0; }
};

}  // namespace curdkv
