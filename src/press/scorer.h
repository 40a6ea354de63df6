// A scorer tells how much each cached token matters to each KV head: larger = keep.
// What is heavy it writes as ggml graphs over slices of one layer's keys, values or queries, which run where
// the layer lives; what is light (normalising, smoothing, combining) it does on the host, as that is where
// tokens are selected. A new one is one file in scorers/ and one line in entries.h; see
// docs/add-a-press.md.
#pragma once

#include <ggml.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include "curdkv/result.h"
#include "press/fused_ops.h"
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
  bool each_query = false;      // each token's own query, so that the latest alone will not do
  bool output_matrix = false;   // the attention's output projection
  bool reconstruction = false;  // the context is read a second time, to be repeated (KVzip)
  bool per_input = false;       // and its attention is wanted relative to the layer's input too (KVzip+)
  bool budget = false;          // scores hold for the ScoreRequest's budget only

  // Whether the rows a head still holds while generating, and the latest queries, are all it takes.
  bool held_rows_will_do() const { return !each_query && !reconstruction; }

  ScorerNeeds operator|(const ScorerNeeds& o) const {
    return {std::max(n_queries, o.n_queries),   each_query || o.each_query, output_matrix || o.output_matrix,
            reconstruction || o.reconstruction, per_input || o.per_input,   budget || o.budget};
  }
};

struct ScoreRequest {
  int64_t n_kept = 0;  // tokens each head will keep on average
  double removed = 0;  // fraction of the context, as asked for
  uint64_t seed = 42;  // of what is drawn at random
};

// Queries to come, as far as those of the context tell.
struct ReferenceQueries {
  int64_t n = 0;                // of each KV head
  std::vector<float> q;         // F32 [d_head_k, n, n_head_kv], after RoPE
  std::vector<int32_t> tokens;  // [n], that they are queries of, ascending
};

// What attention from reference queries makes of a layer.
struct ReferenceWorth {
  // sqrt(mean over the queries of their weight on a token, squared) times the norm of its value:
  // [n_tokens, n_head_kv].
  Scores rows;
  // How much a query gives to what followed when it was asked before: the mean of kInduction's shares of its
  // weights on its own token and on those behind it. [n_head_kv].
  std::vector<float> induction;
};

// Attention to what followed the last time is how a model looks things up ("induction heads", Olsson et al.
// 2022, section "prefix matching"); that to the same token again, how it finds the place.
inline constexpr float kInduction[] = {0.3f, 1, 1, 1, 1};

// One layer of a context as a scorer sees it: the n_tokens that were read, in every head, before any was
// evicted. While generating, it is what one KV head holds instead: n_head_kv is 1, and the tokens are those
// still there.
class LayerView {
 public:
  virtual ~LayerView() = default;

  int64_t n_tokens = 0;
  std::vector<int32_t> positions;        // [n_tokens], in the sequence, as RoPE had them; ascending
  std::vector<int32_t> query_positions;  // of the queries that are there, the latest tokens'; ascending
  int64_t n_head_kv = 0;
  int64_t n_group = 1;  // query heads per KV head
  int64_t d_head_k = 0;
  int64_t d_head_v = 0;
  float kq_scale = 1;  // multiplies Q K^T
  int64_t n_head() const { return n_head_kv * n_group; }

  int64_t n_queries() const { return std::ssize(query_positions); }
  // Tokens below a position: of a context from its beginning, so many sinks.
  int64_t n_below(int64_t position) const { return count_below(positions, position); }
  // Tokens that query i sees.
  int64_t n_seen(int64_t i) const { return n_below(query_positions[static_cast<size_t>(i)] + int64_t{1}); }
  // Queries that see token t.
  int64_t n_seeing(int64_t t) const {
    return n_queries() - count_below(query_positions, positions[static_cast<size_t>(t)]);
  }

  // Tokens [first, first + n), for a graph. Rows (ne0) are contiguous, the other dimensions need not be.
  virtual ggml_tensor* keys(ScoreGraph& graph, int64_t first,
                            int64_t n) = 0;  // cache type [d_head_k, n, n_head_kv], after RoPE
  virtual ggml_tensor* values(ScoreGraph& graph, int64_t first,
                              int64_t n) = 0;  // cache type [d_head_v, n, n_head_kv]
  // Queries [first, first + n) of those that are there.
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
  // The same of every query head, attention divided by the norm of the layer's normed input where the query
  // is: [n_tokens, n_head].
  virtual Result<Scores> reconstruction_per_input() = 0;
  // n queries of each KV head's group, as far as there are such: query i of the i-th of n evenly spaced
  // tokens, of the group's head i mod n_group, rotated to where the context's end would have it, i mod
  // 64 behind the next position. Done once; the layer's own.
  virtual Result<const ReferenceQueries*> reference_queries(int64_t) {
    return Error{ErrorCode::internal, "there are no queries to be references"};
  }
  // attention_worth() of so many of them, measured once.
  virtual Result<ReferenceWorth> reference_worth(int64_t n_queries);
  // n matrices F32 [d, rank], entries N(0, 1), for this layer.
  virtual std::vector<float> gaussian(uint64_t seed, int64_t d, int64_t rank, int64_t n) = 0;

  // Operations for its graphs that take the place of several of ggml's; null if the layer does not lie in the
  // host's memory.
  virtual FusedOps* fused() { return nullptr; }

  // work(i) for each of n, on several threads where there are some.
  virtual Result<void> in_parallel(int64_t n, const std::function<void(int64_t i)>& work) = 0;

  // Runs a graph. `build` returns the tensors wanted (F32, contiguous); their data comes back in that order.
  using Build = std::function<std::vector<ggml_tensor*>(ScoreGraph&)>;
  virtual Result<std::vector<std::vector<float>>> run(const Build& build) = 0;

 private:
  static int64_t count_below(const std::vector<int32_t>& ascending, int64_t x) {
    return std::lower_bound(ascending.begin(), ascending.end(), x) - ascending.begin();
  }
};

// Pure: the same layer and request give the same scores.
class Scorer {
 public:
  virtual ~Scorer() = default;
  // [n_tokens, n_head_kv].
  virtual Result<Scores> score(LayerView& layer, const ScoreRequest& request) const = 0;
  virtual ScorerNeeds needs() const { return {}; }
  // First tokens of the context that are always kept, whatever score() says of them.
  virtual int64_t n_sinks() const { return 0; }
  // Nothing is kept but the sinks and the latest tokens. While generating, the gap between them can then be
  // closed by renumbering positions, and a generation need not end where the model's context does.
  virtual bool keeps_sinks_and_latest() const { return false; }
};

}  // namespace curdkv
