// Prefill with the loops turned round: every layer takes the whole context, chunk by chunk, before the next
// layer starts. Only one layer's uncompressed keys and values exist at a time; they are scored and compacted
// into the ragged cache before the next layer needs the memory. The result is exactly that of compressing
// after a full prefill, as each layer attends to the uncompressed keys of its own.
#pragma once

#include <optional>

#include "compute/products/layer_products.h"
#include "engine/hidden_states.h"
#include "engine/scratch_attention.h"
#include "engine/second_reading.h"

namespace curdkv {

// Where a press's selection goes.
struct PrefillInto {
  SequenceState* sequence;
  const Press* press;
};

class Prefill {
 public:
  // repeats: what is repeated where a press or the observer needs it.
  Prefill(Executor::Impl& executor, std::span<const PrefillInto> into, std::span<const Token> tokens,
          const std::vector<Repeat>& repeats, const ReadOptions& options);
  Result<std::vector<ReadReport>> run();  // one for each of `into`

 private:
  Result<LayerKv> allocate_kv(int64_t il) const;
  Result<void> run_layer(int64_t il, LayerKv& kv);
  Result<void> run_chunk(int64_t il, LayerKv& kv, int64_t first, int64_t n);
  void store_queries(ggml_context* ctx, const LayerKv& kv, ggml_tensor* q, int64_t first);
  Result<void> compress(int64_t il, const LayerKv& kv);
  Result<void> compress_into(size_t index, int64_t il, const LayerKv& kv, LayerScores& scores);
  Result<void> read_logits();
  void note_progress(int64_t il, int64_t n_done) const;
  void note_peak(size_t kv_bytes);

  Executor::Impl& e_;
  std::span<const PrefillInto> into_;
  std::span<const Token> tokens_;
  const ReadOptions& options_;
  ScorerNeeds needs_;
  int64_t n_tokens_, n_padded_, n_chunk_;
  int64_t n_rows_ = 0;                            // of a layer's scratch
  std::vector<std::shared_ptr<KvBlock>> blocks_;  // of each of `into`, as far as they are made
  std::vector<float> logits_;
  std::vector<ReadReport> reports_;
  double compress_ms_ = 0;  // of all presses together

  std::optional<HiddenStates> first_;
  std::optional<SecondReading> second_;  // when the press needs it
  std::optional<ScratchAttention> attention_;
  LayerProducts products_;
};

}  // namespace curdkv
