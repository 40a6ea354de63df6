// Prefill with the loops turned round: every layer takes the whole context, chunk by chunk, before the next
// layer starts. Only one layer's uncompressed keys and values exist at a time; they are scored and compacted
// into the ragged cache before the next layer needs the memory. The result is exactly that of compressing
// after a full prefill, as each layer attends to the uncompressed keys of its own.
#pragma once

#include "engine/layer_scoring.h"
#include "engine/session_impl.h"

namespace curdkv {

class Prefill {
 public:
  Prefill(Session::Impl& session, std::span<const Token> tokens, const Press& press,
          const PrefillOptions& options);
  Result<PrefillReport> run();

 private:
  Result<void> allocate_hidden(ggml_backend_dev_t device);
  Result<LayerKv> allocate_kv(int64_t il) const;
  Result<void> allocate_inputs();
  Result<void> embed();
  Result<void> run_layer(int64_t il, LayerKv& kv);
  Result<void> run_chunk(int64_t il, LayerKv& kv, int64_t first, int64_t n);
  Result<void> compress(int64_t il, const LayerKv& kv);
  Result<void> read_logits();
  ggml_tensor* hidden_rows(ggml_context* ctx, int64_t first, int64_t n) const;
  void note_peak(size_t kv_bytes);

  Session::Impl& s_;
  std::span<const Token> tokens_;
  const Press& press_;
  const PrefillOptions& options_;
  ScorerNeeds needs_;
  int64_t n_tokens_, n_padded_, n_chunk_;
  PrefillReport report_;

  ggml_tensor* hidden_ = nullptr;  // F32 [n_embd, n_padded], on the device of the layer at work
  ggml_backend_dev_t hidden_device_ = nullptr;
  GgmlContext hidden_context_;
  GgmlBuffer hidden_buffer_;

  RaggedMask mask_;
  ggml_tensor* mask_data_ = nullptr;  // F16, see RaggedMask
  ggml_tensor* ids_ = nullptr;        // I32 [n_padded]
  ggml_tensor* positions_ = nullptr;  // I32 [n_padded]
  GgmlContext input_context_;
  GgmlBuffer input_buffer_;
};

}  // namespace curdkv
