// What a session holds; shared by prefill.cpp, extend.cpp and session.cpp.
#pragma once

#include <memory>
#include <vector>

#include "cache/ragged_cache.h"
#include "curdkv/session.h"
#include "engine/compaction.h"
#include "engine/layer_scoring.h"
#include "engine/logits.h"
#include "engine/ragged_attention.h"
#include "model/model_impl.h"
#include "press/allocation.h"
#include "products/kernel.h"

namespace curdkv {

inline constexpr int64_t kTileTokens = 64;  // ggml's flash attention takes queries in tiles of this many

// Chunks of several tokens are padded to a multiple of this, so that the same matrix kernels, and so the same
// rounding, serve a token wherever a chunk ends, and in whatever company.
inline constexpr int64_t kExtendPad = 4;

// A context or a batch: positions are 32-bit integers in ggml, and sums of a few such lengths stay far from
// where 64 bits end.
inline constexpr int64_t kMostTokens = int64_t{1} << 30;

inline int64_t round_up(int64_t n, int64_t unit) {
  return (n + unit - 1) / unit * unit;
}

ggml_type to_ggml(CacheType type);

// The graph that decodes one token, kept from step to step.
struct DecodeGraph {
  uint64_t epoch = 0;          // of Compute when it was built; 0: none
  uint64_t cache_version = 0;  // likewise
  int64_t n_padded = 0;
  ggml_tensor* tokens = nullptr;           // I32 [n_padded]
  ggml_tensor* positions = nullptr;        // I32 [n_padded]
  ggml_tensor* out_rows = nullptr;         // I32 [rows wanted], null if all are
  ggml_tensor* mask = nullptr;             // F16, portable attention only
  LogitsNodes logits;                      // of the rows wanted
  std::vector<ggml_tensor*> cache_rows;    // I64 [n_head_kv * n_new] per layer: where new rows go
  std::vector<RaggedAttention> attention;  // per layer
};

struct Session::Impl {
  Impl(const Model& shared_model, const SessionParams& session_params)
      : model(shared_model), params(session_params) {}

  Model model;
  SessionParams params;
  int64_t n_ctx = 0;
  std::unique_ptr<Compute> compute;
  ProductKernels product_kernels;  // of a prefill
  RaggedCache cache;
  int64_t n_tokens = 0;
  int64_t next_position = 0;  // of RoPE; n_tokens unless gaps were closed
  int64_t n_compressed = 0;   // times compress() made older marks worthless
  std::vector<float> logits;
  std::vector<KeptTokens> kept;
  DecodeGraph decode;

  const Model::Impl& m() const { return model.impl(); }
  ggml_backend_dev_t device(int64_t il) const { return m().weights.layer_device[static_cast<size_t>(il)]; }
  bool on_cpu(int64_t il) const {
    return device(il) == ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
  }

  Result<void> extend(std::span<const Token> tokens, const LogitsSink& sink);
  Result<void> compress(const Press& press, int64_t budget, int64_t room);
  Result<void> check_prefill(std::span<const Token> tokens, const Press& press,
                             const PrefillOptions& options) const;
  Result<void> check_tokens(std::span<const Token> tokens) const;
  Mark mark() const;
  void rewind(Mark mark) noexcept;  // of this session, and not void
  void clear() noexcept;

  // Room in graphs for what is done with so many tokens. A layer takes about 40 nodes, and some per KV head
  // where attention is made of standard operations; scoring and compacting take some per slice of tokens and
  // per head's rows, a second reading some per tile of a chunk.
  void reserve_nodes(int64_t n);

  LayerModel layer_model(int64_t il) const {
    return {m().hp, m().weights.rope_freqs, m().weights.layers[static_cast<size_t>(il)].wo, il};
  }

 private:
  Result<void> shrink_layer(int64_t il, const Press& press, int64_t budget, int64_t room,
                            const ChangeKeys& change);
  Result<void> extend_chunk(std::span<const Token> tokens, bool decoding, const LogitsSink& sink);
  Result<void> build_extend(int64_t n_new, bool decoding, bool all_logits);
};

}  // namespace curdkv
