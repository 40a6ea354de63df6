// A scorer tells how much each cached token matters to each KV head: larger = keep.
// It is written as a ggml graph over one layer's keys and values, so it runs where the layer lives. A new one
// is one file with a class like CurScorer and a line in registry.cpp.
#pragma once

#include <ggml.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace curdkv {

// Random numbers for one layer: n matrices F32 [d, rank] one after the other, entries N(0, 1).
using Gaussian = std::function<std::vector<float>(int64_t d, int64_t rank, int64_t n)>;

// One layer's uncompressed keys and values, as the prefill left them.
struct ScorerInput {
  ggml_tensor* keys;    // F16 or F32 [d_head_k, n_tokens, n_head_kv], after RoPE, rows contiguous
  ggml_tensor* values;  // F16 or F32 [d_head_v, n_tokens, n_head_kv], rows contiguous
  Gaussian gaussian;
};

// A graph under construction, with constants that the engine fills in once memory is there.
class ScoreGraph {
 public:
  struct Constant {
    ggml_tensor* tensor;
    std::vector<float> data;
  };

  explicit ScoreGraph(ggml_context* ctx) : ctx_(ctx) {}
  ggml_context* ctx() const { return ctx_; }

  // F32 [ne0, ne1, ne2] with the given data, fastest dimension first.
  ggml_tensor* constant(std::vector<float> data, int64_t ne0, int64_t ne1 = 1, int64_t ne2 = 1) {
    ggml_tensor* t = ggml_new_tensor_3d(ctx_, GGML_TYPE_F32, ne0, ne1, ne2);
    ggml_set_input(t);
    constants_.push_back({t, std::move(data)});
    return t;
  }
  const std::vector<Constant>& constants() const { return constants_; }

 private:
  ggml_context* ctx_;
  std::vector<Constant> constants_;
};

class Scorer {
 public:
  virtual ~Scorer() = default;
  // F32 [n_tokens, n_head_kv].
  virtual ggml_tensor* build(ScoreGraph& graph, const ScorerInput& in) const = 0;
  // First tokens of the context that are always kept; build() gives them the highest score.
  virtual int64_t n_sinks() const = 0;
};

}  // namespace curdkv
