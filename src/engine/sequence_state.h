// What a sequence is: the rows it holds, where it stands, and the logits after its last token.
#pragma once

#include <cstdint>
#include <vector>

#include "cache/sequence_cache.h"
#include "press/allocation.h"

namespace curdkv {

struct SequenceState {
  SequenceCache cache;
  int64_t n_tokens = 0;
  int64_t next_position = 0;  // of RoPE; n_tokens unless gaps were closed
  int64_t n_compressed = 0;   // times that older marks became worthless
  std::vector<float> logits;
  std::vector<KeptTokens> kept;  // per layer, by the press

  void clear() noexcept {
    cache.clear();
    n_tokens = next_position = 0;
    logits.clear();
    kept.clear();
  }
};

}  // namespace curdkv
