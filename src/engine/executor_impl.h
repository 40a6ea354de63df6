// What an executor works with; shared by executor.cpp, step.cpp, read.cpp and shrink.cpp.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "compute/products/kernel.h"
#include "curdkv/executor.h"
#include "engine/compaction.h"
#include "engine/layer_scoring.h"
#include "engine/limits.h"
#include "engine/sequence_state.h"
#include "engine/step_graph.h"
#include "model/model_impl.h"

namespace curdkv {

struct Executor::Impl {
  Impl(const Model& of, const ExecutorParams& how) : model(of), params(how) {}

  Model model;
  ExecutorParams params;
  std::vector<CacheShape> shapes;  // of the caches, by layer
  int64_t n_ctx = 0;
  std::unique_ptr<Compute> compute;
  const Bf16Tiles* tiles = nullptr;  // where a reading is to use them
  ProductKernels product_kernels;    // of a reading and, in 8 bits, of questions
  std::optional<StepGraph> graph;

  size_t bytes_uncompressed(int64_t n_tokens) const {
    size_t n = 0;
    for (const CacheShape& shape : shapes) n += shape.bytes_uncompressed(n_tokens);
    return n;
  }
  const Model::Impl& m() const { return model.impl(); }
  ggml_backend_dev_t device(int64_t il) const { return m().weights.layer_device[static_cast<size_t>(il)]; }
  bool on_cpu(int64_t il) const {
    return device(il) == ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
  }

  Result<void> check_sequence(const SequenceState& sequence) const;
  Result<void> check_tokens(const SequenceState& sequence, std::span<const Token> tokens) const;
  Result<void> check_read(const SequenceState& sequence, std::span<const Token> tokens,
                          int64_t n_question) const;
  Result<void> check_rows(const Press& press) const;  // how it wants to hold what it keeps
  // What is repeated of tokens to be read, before a question, for presses that read it twice.
  Result<std::vector<Repeat>> make_repeats(const SequenceState& sequence, std::span<const Token> tokens,
                                           int64_t n_question) const;

  Result<void> step(std::span<const StepPart> parts);
  Result<void> check_compress(const SequenceState& sequence, const Press& press, int64_t budget) const;

  // Room in graphs for what is done with so many tokens. A layer takes about 40 nodes, and some per KV head
  // where attention is made of standard operations; scoring and compacting take some per slice of tokens and
  // per head's rows, a second reading some per tile of a chunk.
  void reserve_nodes(int64_t n);

  LayerModel layer_model(int64_t il) const {
    return {m().hp, m().weights.rope_freqs, m().weights.layers[static_cast<size_t>(il)].wo, il};
  }

 private:
  Result<void> ask(const StepPart& part);
  Result<void> decode_in_turn(const StepPart& part);
};

}  // namespace curdkv
