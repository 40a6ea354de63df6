// What a session holds; shared by prefill.cpp, shrink.cpp and session.cpp.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "curdkv/session.h"
#include "engine/compaction.h"
#include "engine/layer_scoring.h"
#include "engine/limits.h"
#include "engine/sequence_state.h"
#include "engine/step.h"
#include "model/model_impl.h"
#include "products/kernel.h"

namespace curdkv {

ggml_type to_ggml(CacheType type);

struct Session::Impl {
  Impl(const Model& shared_model, const SessionParams& session_params)
      : model(shared_model), params(session_params) {}

  Model model;
  SessionParams params;
  int64_t n_ctx = 0;
  std::unique_ptr<Compute> compute;
  ProductKernels product_kernels;  // of a prefill
  SequenceState state;
  std::optional<Step> step;

  const Model::Impl& m() const { return model.impl(); }
  ggml_backend_dev_t device(int64_t il) const { return m().weights.layer_device[static_cast<size_t>(il)]; }
  bool on_cpu(int64_t il) const {
    return device(il) == ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
  }

  Result<void> extend(std::span<const Token> tokens, const LogitsSink& sink);
  Result<void> compress(const Press& press, int64_t budget);
  Result<void> check_prefill(std::span<const Token> tokens, const Press& press,
                             const PrefillOptions& options) const;
  Result<void> check_tokens(std::span<const Token> tokens) const;
  // Room in graphs for what is done with so many tokens. A layer takes about 40 nodes, and some per KV head
  // where attention is made of standard operations; scoring and compacting take some per slice of tokens and
  // per head's rows, a second reading some per tile of a chunk.
  void reserve_nodes(int64_t n);

  LayerModel layer_model(int64_t il) const {
    return {m().hp, m().weights.rope_freqs, m().weights.layers[static_cast<size_t>(il)].wo, il};
  }

 private:
  Result<KvLayer> shrink_layer(int64_t il, const Press& press, int64_t budget, const ChangeKeys& change,
                               int64_t n_back);
};

}  // namespace curdkv
