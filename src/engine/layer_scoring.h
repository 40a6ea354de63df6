// What scorers see of a layer (LayerView), over the prefill's scratch or over one KV head of the cache.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "attention/score_ops.h"
#include "cache/kv_block.h"
#include "compute/compute.h"
#include "engine/recent_queries.h"
#include "engine/rotations.h"
#include "model/hparams.h"
#include "press/allocation.h"
#include "press/scorer.h"

namespace curdkv {

class Press;

// Keys and values of one layer, uncompressed; F32 for an F32 cache, else F16: those a sequence held before,
// right-aligned in the first n_held rows, and behind them those of the tokens that are read. Queries as far
// as a scorer asked for them.
struct LayerKv {
  ggml_tensor* k = nullptr;       // [d_head_k, n_head_kv, n_rows]
  ggml_tensor* v = nullptr;       // [d_head_v, n_head_kv, n_rows]
  ggml_tensor* k_rows = nullptr;  // [d_head_k, n_head_kv * n_rows], the same data
  ggml_tensor* v_rows = nullptr;
  int64_t n_held = 0;
  std::vector<int64_t> first;  // per KV head, its first row
  ggml_tensor* q = nullptr;    // [d_head_k, n_head, tokens read], after RoPE; null if not asked for
  int64_t q_first = 0;         // token of its first row, of those read
  GgmlContext context;
  TensorMemory memory;

  size_t n_bytes() const { return memory.n_bytes(); }
};

// What tokens got while the context was repeated, as LayerView tells it.
struct Repeated {
  Scores highest;    // [n_tokens, n_head_kv]; 0 for tokens no repeat covers
  Scores per_input;  // [n_tokens, n_head], or empty if not asked for
};

// The layer at work.
struct LayerModel {
  const HParams& hp;
  ggml_tensor* rope_freqs;  // may be null
  ggml_tensor* wo;          // output projection; null if no scorer needs it
  int64_t il;

  const LayerShape& shape() const { return hp.layer(il); }
};

// On the CPU.
class HostOps : public FusedOps {
 public:
  explicit HostOps(Compute& compute) : compute_(compute) {}
  ggml_tensor* chunk_columns(ggml_tensor* q, ggml_tensor* k, int64_t chunk, float scale,
                             bool padded) override {
    return chunk_columns_cpu(compute_, q, k, chunk, scale, padded);
  }
  ggml_tensor* column_squares(ggml_tensor* q, ggml_tensor* tokens, ggml_tensor* k, float scale) override {
    static_assert(kSquareParts == kColumnSquaresParts);
    return column_squares_cpu(compute_, q, tokens, k, scale, kInduction);
  }
  ggml_tensor* gram_parts(ggml_tensor* rows) override { return gram_parts_cpu(compute_, rows); }
  ggml_tensor* squared_norms(ggml_tensor* rows, ggml_tensor* w) override {
    return squared_norms_cpu(compute_, rows, w);
  }

 private:
  Compute& compute_;
};

// Both views run their graphs on a Compute and know the layer's model.
class ModelLayerView : public LayerView {
 public:
  ModelLayerView(Compute& compute, const LayerModel& model) : compute_(compute), model_(model) {}

  ggml_tensor* without_rope(ScoreGraph& graph, ggml_tensor* x, int64_t first) override;
  Result<std::vector<float>> mean_rotation(int64_t first, int64_t n) override;
  Result<std::vector<float>> output_matrix() override;
  std::vector<float> gaussian(uint64_t seed, int64_t d, int64_t rank, int64_t n) override;
  Result<void> in_parallel(int64_t n, const std::function<void(int64_t i)>& work) override;
  Result<std::vector<std::vector<float>>> run(const Build& build) override;

 protected:
  Compute& compute_;
  LayerModel model_;
  int64_t first_head_ = 0;            // query head, of the model
  std::vector<float> output_matrix_;  // once asked for
};

// A whole layer of what was read: n_tokens of kv behind those held before.
class PrefilledLayer : public ModelLayerView {
 public:
  // rotations: what layers of one reading share; may be null.
  PrefilledLayer(Compute& compute, const LayerModel& model, const LayerKv& kv, int64_t n_tokens,
                 int64_t first_position = 0, RotationCache* rotations = nullptr);

  ggml_tensor* keys(ScoreGraph& graph, int64_t first, int64_t n) override;
  ggml_tensor* values(ScoreGraph& graph, int64_t first, int64_t n) override;
  ggml_tensor* queries(ScoreGraph& graph, int64_t first, int64_t n) override;
  FusedOps* fused() override;
  Result<Scores> reconstruction() override { return repeated->highest; }
  Result<Scores> reconstruction_per_input() override { return repeated->per_input; }
  Result<const ReferenceQueries*> reference_queries(int64_t n) override;
  Result<ReferenceWorth> reference_worth(int64_t n_queries) override;

  std::optional<Repeated> repeated;  // when the press's scorer needs it

 private:
  Result<ReferenceQueries> turned_queries(int64_t n);
  Result<std::vector<float>> queries_on_device(const std::vector<int32_t>& tokens);

  RotationCache own_rotations_, *rotations_;
  std::map<int64_t, ReferenceQueries> references_;  // by the number asked for
  std::map<int64_t, ReferenceWorth> worth_;         // likewise
  const LayerKv& kv_;
  HostOps ops_;
};

// The rows one KV head holds while generating, and the latest queries.
class HeldRows : public ModelLayerView {
 public:
  HeldRows(Compute& compute, const LayerModel& model, const KvLayer& layer, int64_t head,
           const RecentQueries& recent);

  ggml_tensor* keys(ScoreGraph& graph, int64_t first, int64_t n) override;
  ggml_tensor* values(ScoreGraph& graph, int64_t first, int64_t n) override;
  ggml_tensor* queries(ScoreGraph& graph, int64_t first, int64_t n) override;
  Result<Scores> reconstruction() override;
  Result<Scores> reconstruction_per_input() override { return reconstruction(); }
  std::vector<float> gaussian(uint64_t seed, int64_t d, int64_t rank, int64_t n) override;

 private:
  const KvLayer& layer_;
  const RecentQueries& recent_;
  int64_t head_;
};

// Scores of one layer by presses that may share a scorer, at several ratios or with several allocations: it
// then runs once, unless its scores depend on the budget.
class LayerScores {
 public:
  explicit LayerScores(LayerView& layer) : layer_(layer) {}

  LayerView& layer() const { return layer_; }
  Result<const Scores*> of(const Press& press, const ScoreRequest& request);
  // Time the last scores would have taken, had they not been shared.
  double shared_ms() const { return shared_ms_; }

 private:
  struct Entry {
    Scores scores;
    double ms;
  };
  LayerView& layer_;
  std::map<std::string, Entry> shared_;
  Scores own_;  // the last that depended on the budget
  double shared_ms_ = 0;
};

// What each KV head keeps of a layer that was read, [0, n_tokens): everything if the press keeps all, else as
// its allocation selects. The last n_question tokens are no part of the context: they are scored with it and
// all kept, beyond its budget. `wanted`: tokens per head on average, where the press's ratio is of bytes.
Result<KeptTokens> select_tokens(LayerScores& layer_scores, const Press& press, int64_t n_question,
                                 int64_t il, int64_t n_layer, std::optional<double> wanted = {});

// The order in which every KV head gives up tokens of a layer that was read, those it keeps longest first:
// questions' and protected ones, sinks, then by score. n_fixed: so many it never gives up.
struct TokenOrder {
  std::vector<std::vector<int32_t>> tokens;  // per KV head, all
  int64_t n_fixed = 0;
};
Result<TokenOrder> order_tokens(LayerScores& layer_scores, const Press& press, int64_t n_question,
                                double wanted);

// Which of a head's rows, at most `budget`, stay in the cache; ascending.
Result<std::vector<int32_t>> select_rows(HeldRows& rows, const Press& press, int64_t budget);

}  // namespace curdkv
