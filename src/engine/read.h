// Reading with the loops turned round: every layer takes all new tokens, chunk by chunk, before the next
// layer starts. Only one layer's uncompressed keys and values exist at a time; they are scored and compacted
// into a block before the next layer needs the memory. The result is exactly that of compressing after all
// was read, as each layer attends to the uncompressed keys of its own. What the sequence holds already is
// attended to and stays as it is.
#pragma once

#include <optional>

#include "compute/products/layer_products.h"
#include "engine/hidden_states.h"
#include "engine/job.h"
#include "engine/packed_reading.h"
#include "engine/scratch_attention.h"
#include "engine/second_reading.h"

namespace curdkv {

// Where a press's selection goes.
struct ReadInto {
  SequenceState* sequence;
  Press press;
};

class ReadJob : public Job::Impl {
 public:
  // Several of `into` hold nothing yet. repeats: what is repeated where a press or the observer needs it.
  ReadJob(Executor::Impl& executor, std::vector<ReadInto> into, std::span<const Token> tokens,
          std::vector<Repeat> repeats, const ReadOptions& options);
  Result<bool> advance() override;  // a chunk of a layer, or what the end of a layer takes

 private:
  Result<bool> next();
  Result<void> start();
  Result<void> start_layer();
  Result<LayerKv> allocate_kv() const;
  Result<void> copy_held();
  Result<void> run_chunk(int64_t n);
  void store_queries(ggml_context* ctx, ggml_tensor* q);
  Result<void> end_layer();
  Result<void> compress(int64_t il, const LayerKv& kv);
  Result<void> compress_into(size_t index, int64_t il, const LayerKv& kv, LayerScores& scores);
  Result<void> keep_queries(int64_t il, const LayerKv& kv);
  Result<void> read_logits();
  Result<void> commit();
  void note_progress(int64_t il, int64_t n_done) const;
  void note_peak(size_t kv_bytes);
  void note_compression(size_t into, double ms) { compress_ms_ += ms, reports[into].compress_ms += ms; }

  std::vector<ReadInto> into_;
  std::vector<Token> tokens_;
  std::vector<Repeat> repeats_;
  ReadOptions options_;
  ScorerNeeds needs_;
  int64_t n_tokens_, first_position_;
  // Rows of a layer's scratch: those the sequence held, right-aligned in the first n_held_, then the new
  // tokens'. The first hidden state is that of row n_held_ - n_front_, so that tiles lie alike whether all
  // was read at once or not.
  int64_t n_held_, n_front_, n_padded_, n_chunk_, n_rows_;
  int64_t il_ = 0, at_ = 0;  // the layer and the hidden state that are next

  LayerKv kv_;
  std::vector<LayerKv> waiting_;                  // compress_at_end only
  std::vector<std::shared_ptr<KvBlock>> blocks_;  // of each of `into`, as far as they are made
  std::vector<PackedReading> packed_;             // likewise, where rows are packed
  RecentQueries recent_;
  RotationCache rotations_;
  std::vector<float> logits_;
  double all_ms_ = 0, compress_ms_ = 0;  // of all presses together

  std::optional<HiddenStates> hidden_;
  std::optional<SecondReading> second_;  // when a press needs it
  std::optional<ScratchAttention> attention_;
  LayerProducts products_;
};

}  // namespace curdkv
