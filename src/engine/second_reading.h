// The second reading that KVzip scores by: the model is asked to repeat the context, chunk by chunk, and each
// token's highest attention is noted. It goes layer by layer beside the first reading, so that it needs no
// layer's keys and values but those of the layer at work.
#pragma once

#include <deque>

#include "compute/products/layer_products.h"
#include "engine/hidden_states.h"
#include "engine/layer_scoring.h"
#include "engine/scratch_attention.h"

namespace curdkv {

class SecondReading {
 public:
  // n_tokens: of the context, behind n_held rows of a layer's scratch, at positions from first_position on.
  // n_chunk: tokens computed at a time, a multiple of kTileTokens. per_input: Repeated::per_input is wanted.
  SecondReading(Executor::Impl& executor, const std::vector<Repeat>& repeats, int64_t n_held,
                int64_t n_tokens, int64_t first_position, int64_t n_chunk, bool per_input)
      : e_(executor),
        repeats_(repeats),
        n_held_(n_held),
        n_tokens_(n_tokens),
        first_position_(first_position),
        n_chunk_(n_chunk),
        per_input_(per_input) {}

  // Rows the longest repeat needs in a layer's scratch, behind the context's.
  int64_t n_rows() const;
  int64_t n_repeated() const;  // tokens of all repeats, padding included
  size_t n_bytes() const;

  Result<void> start();
  // Runs all repeats through layer il, over kv that holds the context's rows; those behind are
  // overwritten. The products are those of layer il.
  Result<Repeated> run_layer(int64_t il, const LayerKv& kv, ScratchAttention& attention,
                             LayerProducts& products, const std::function<void(int64_t n_done)>& progress);

 private:
  Result<void> repeat(int64_t il, const LayerKv& kv, size_t index, ScratchAttention& attention,
                      LayerProducts& products, Repeated& out);

  Executor::Impl& e_;
  const std::vector<Repeat>& repeats_;
  int64_t n_held_, n_tokens_, first_position_, n_chunk_;
  bool per_input_;
  std::deque<HiddenStates> readings_;  // one per repeat
};

}  // namespace curdkv
