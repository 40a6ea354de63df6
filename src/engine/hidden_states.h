// A sequence of tokens on its way through the layers: its hidden states live where the layer at work does.
#pragma once

#include "engine/executor_impl.h"

namespace curdkv {

class HiddenStates {
 public:
  // Room for n_padded hidden states of the tokens, the rest being padding, at positions from first_position
  // on. Embeds them, n_chunk at a time. Errors: out_of_memory, naming `what`.
  static Result<HiddenStates> start(Executor::Impl& executor, std::span<const Token> tokens, int64_t n_padded,
                                    int64_t n_chunk, int64_t first_position, const char* what);

  // Moves the hidden states to where layer il is.
  Result<void> move_to_layer(int64_t il);

  int64_t n_padded() const { return hidden_->ne[1]; }
  size_t n_bytes() const { return hidden_memory_.n_bytes(); }

  // Tokens [first, first + n), for a graph.
  ggml_tensor* hidden(ggml_context* ctx, int64_t first, int64_t n) const;     // F32 [n_embd, n]
  ggml_tensor* positions(ggml_context* ctx, int64_t first, int64_t n) const;  // I32 [n]

 private:
  HiddenStates(Executor::Impl& executor, const char* what) : e_(&executor), what_(what) {}
  Result<void> allocate_hidden(ggml_backend_dev_t device, int64_t n_padded);
  Result<void> allocate_inputs(std::span<const Token> tokens, int64_t first_position);
  Result<void> embed(int64_t n_chunk);

  Executor::Impl* e_;
  const char* what_;
  ggml_tensor* hidden_ = nullptr;  // F32 [n_embd, n_padded]
  ggml_backend_dev_t device_ = nullptr;
  GgmlContext hidden_context_;
  TensorMemory hidden_memory_;
  ggml_tensor* ids_ = nullptr;        // I32 [n_padded]
  ggml_tensor* positions_ = nullptr;  // I32 [n_padded]
  GgmlContext input_context_;
  TensorMemory input_memory_;
};

}  // namespace curdkv
