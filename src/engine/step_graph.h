// A step: new tokens of one or several sequences, a question's or one of an answer each, go through the model
// in one graph and come to lie in the tails of their sequences. The weights are read once for all; each token
// attends to what its own sequence holds.
#pragma once

#include <algorithm>
#include <atomic>
#include <memory>
#include <span>
#include <vector>

#include "compute/compute.h"
#include "compute/products/kernel.h"
#include "curdkv/executor.h"
#include "engine/logits.h"
#include "engine/sequence_state.h"
#include "model/layer_blocks.h"
#include "model/model_impl.h"

namespace curdkv {

struct StepPart {
  SequenceState* sequence;
  std::span<const Token> tokens;            // as few as a batch holds
  const LogitsSink* sink = nullptr;         // gets every token's logits
  bool decoded = false;                     // not a question
  const std::atomic<bool>* stop = nullptr;  // of this part alone

  int64_t n_recent() const {  // last tokens whose queries the sequence keeps
    return std::min(std::ssize(tokens), sequence->recent.capacity());
  }
};

struct StepBatch;  // step_inputs.h
class StepInput;

class StepGraph {
 public:
  struct Choices {
    bool portable_attention = false;  // as in ExecutorParams
    // A token decoded alone is computed as in company, for which ggml has other matrix kernels: weights that
    // the row kernel does not take are else rounded in another way.
    bool pad_alone = false;
    const ProductKernel* questions_kernel = nullptr;  // null: questions' products are ggml's
  };
  // All that is referred to must outlive this.
  StepGraph(const Model::Impl& model, Compute& compute, const Choices& choices);
  ~StepGraph();

  // The parts are all decoded or all questions' chunks. Decoded ones are of one token, or of several if
  // decodes_drafts(); their products are those of a token alone or, in company, of a few, and the graph
  // serves the next step, whatever its sequences. A question's tokens are computed alike wherever its chunks
  // end. On error no sequence has changed.
  Result<void> run(std::span<const StepPart> parts);

  // Whether run() takes several parts: not where attention is made of standard ops, which have one sequence's
  // lengths built in.
  bool decodes_together() const { return all_by_kernels_; }

  // Whether several questions can go together, each with the bits that it has alone: where its last token's
  // products are RowProducts', which has no company in them.
  bool asks_together() const { return all_by_kernels_ && all_by_rows_; }

  // Whether decoding takes parts of several tokens, with the bits that they have one after the other.
  bool decodes_drafts() const { return all_by_kernels_ && all_by_rows_; }

 private:
  template <typename Input, typename... Args>
  Input& add(Args&&... args);
  bool serves(const StepBatch& batch) const;
  Result<void> build(const StepBatch& batch);
  void keep_queries(const StepBatch& batch);
  Result<void> finish(const StepBatch& batch);
  bool uses_kernels(int64_t il) const;

  const Model::Impl& model_;
  Compute& compute_;
  Choices choices_;
  bool all_by_kernels_ = true;  // no layer's attention is made of standard ops
  bool all_by_rows_ = true;     // RowProducts takes all matrices

  std::vector<std::unique_ptr<StepInput>> inputs_;  // of the graph
  LogitsNodes logits_;
  std::vector<ggml_tensor*> queries_;  // per layer, F32 [d_head_k, n_head, columns]; empty: nobody keeps them
  std::vector<std::vector<float>> fresh_logits_;  // per part
};

}  // namespace curdkv
