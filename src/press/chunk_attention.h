// The two halves of Compactor, for the scorers that use one or both.
// Chari and Van Durme, "Compactor: Calibrated Query-Agnostic KV Cache Compression with Approximate Leverage
// Scores", 2025 (arXiv 2507.08143); kvpress NonCausalAttnPress and LeverageScorePress.
#pragma once

#include "press/scorer.h"

namespace curdkv {

struct NonCausal {
  int64_t chunk = 256;          // tokens that attend to each other
  bool scaled = false;          // divide Q K^T by sqrt(d); kvpress does not
  bool corrected_tail = false;  // false: a short last chunk is filled up with zeros, as kvpress does
};

// Attention that tokens [first, first + n) got from all tokens of their chunk, earlier or later, times the
// norm of their value, averaged over three neighbours and standardised: [n, n_head_kv].
Result<Scores> non_causal_attention(LayerView& layer, int64_t first, int64_t n, const NonCausal& options);

// Leverage scores of keys [first, first + n) before RoPE, centred and sketched by a Gaussian to `rank`
// columns, standardised: [n, n_head_kv].
Result<Scores> sketched_key_leverage(LayerView& layer, int64_t first, int64_t n, int64_t rank, uint64_t seed);

}  // namespace curdkv
