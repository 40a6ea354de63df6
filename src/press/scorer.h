// A scorer tells how much each cached token matters to each KV head: larger = keep.
// What is heavy it writes as ggml graphs over slices of one layer's keys, values or queries, which run where
// the layer lives; what is light (normalising, smoothing, combining) it does on the host, as that is where
// tokens are selected. A new one is one file in scorers/ and one line in registry.cpp; see
// docs/add-a-press.md.
#pragma once

#include <ggml.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include "curdkv/result.h"
#include "press/scores.h"

namespace curdkv {

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

// What a scorer takes beyond keys and values; the prefill keeps no more than is asked for.
struct ScorerNeeds {
  static constexpr int64_t kAll = std::numeric_limits<int64_t>::max();
  int64_t n_queries = 0;        // queries of the last so many tokens
  bool output_matrix = false;   // the attention's output projection
  bool reconstruction = false;  // the context is read a second time, to be repeated (KVzip)

  // Whether the rows a head still holds while generating are all it takes.
  bool held_rows_will_do() const { return n_queries == 0 && !reconstruction; }

  ScorerNeeds operator|(const ScorerNeeds& o) const {
    return {std::max(n_queries, o.n_queries), output_matrix || o.output_matrix,
            reconstruction || o.reconstruction};
  }
};

// One layer of a context as a scorer sees it: tokens [0, n_tokens) of every head, before any was evicted.
// While generating, it is what one KV head holds instead: n_head_kv is 1, and the tokens are those still
// there.
class LayerView {
 public:
  virtual ~LayerView() = default;

  int64_t n_tokens = 0;
  int64_t n_head_kv = 0;
  int64_t n_group = 1;  // query heads per KV head
  int64_t d_head_k = 0;
  int64_t d_head_v = 0;
  float kq_scale = 1;  // multiplies Q K^T
  int64_t n_head() const { return n_head_kv * n_group; }

  // Scores of a scorer that asks for the budget hold for that budget only.
  void set_budget(int64_t n_kept, double removed) {
    n_kept_ = n_kept;
    removed_ = removed;
    budget_asked_ = false;
  }
  int64_t n_kept() { return budget_asked_ = true, n_kept_; }   // tokens each head will keep on average
  double removed() { return budget_asked_ = true, removed_; }  // fraction of the context, as asked for
  bool budget_asked() const { return budget_asked_; }          // since it was set

  // Tokens [first, first + n), for a graph. Rows (ne0) are contiguous, the other dimensions need not be.
  virtual ggml_tensor* keys(ScoreGraph& graph, int64_t first,
                            int64_t n) = 0;  // cache type [d_head_k, n, n_head_kv], after RoPE
  virtual ggml_tensor* values(ScoreGraph& graph, int64_t first,
                              int64_t n) = 0;  // cache type [d_head_v, n, n_head_kv]
  virtual ggml_tensor* queries(ScoreGraph& graph, int64_t first,
                               int64_t n) = 0;  // F16 or F32 [d_head_k, n, n_head], after RoPE
  // Undoes RoPE: x are rotated rows [d_head_k, n, heads] of tokens [first, first + n). F32, contiguous.
  virtual ggml_tensor* without_rope(ScoreGraph& graph, ggml_tensor* x, int64_t first) = 0;
  // These heads' part of the output projection, F32 [d_head_v * n_head, n_embd].
  virtual Result<std::vector<float>> output_matrix() = 0;
  // RoPE's rotation averaged over positions [first, first + n): [d_head_k, d_head_k], row-major.
  virtual Result<std::vector<float>> mean_rotation(int64_t first, int64_t n) = 0;
  // The highest attention each token got while the context was repeated: [n_tokens, n_head_kv].
  virtual Result<Scores> reconstruction() = 0;
  // Seeded: n matrices F32 [d, rank], entries N(0, 1), for this layer.
  virtual std::vector<float> gaussian(int64_t d, int64_t rank, int64_t n) = 0;

  // Runs a graph. `build` returns the tensors wanted (F32, contiguous); their data comes back in that order.
  using Build = std::function<std::vector<ggml_tensor*>(ScoreGraph&)>;
  virtual Result<std::vector<std::vector<float>>> run(const Build& build) = 0;

 private:
  int64_t n_kept_ = 0;
  double removed_ = 0;
  bool budget_asked_ = false;
};

class Scorer {
 public:
  virtual ~Scorer() = default;
  // [n_tokens, n_head_kv].
  virtual Result<Scores> score(LayerView& layer) const = 0;
  virtual ScorerNeeds needs() const { return {}; }
  // First tokens of the context that are always kept, whatever score() says of them.
  virtual int64_t n_sinks() const { return 0; }
  // Nothing is kept but the sinks and the latest tokens. While generating, the gap between them can then be
  // closed by renumbering positions, and a generation need not end where the model's context does.
  virtual bool keeps_sinks_and_latest() const { return false; }
};

}  // namespace curdkv
