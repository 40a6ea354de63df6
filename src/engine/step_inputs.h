// What the graph of a step is told before it runs: an object for each input, which makes its tensors, sets
// them for a batch, and says whether a graph that was built with it serves another batch too. StepGraph's
// own.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "attention/ragged_attention.h"
#include "engine/limits.h"
#include "engine/step_graph.h"

namespace curdkv {

// The parts of a step side by side: all decoded, or all questions' chunks.
struct StepBatch {
  StepBatch(std::span<const StepPart> of, bool pad_alone)
      : parts(of), decoding(of[0].decoded), last_only(!decoding) {
    attention.decoding = decoding;
    for (const StepPart& p : parts) {
      last_only = last_only && p.sink == nullptr;
      attention.decoding = attention.decoding && p.tokens.size() == 1;
      attention.spans.push_back({&p.sequence->cache, std::ssize(p.tokens), n_columns});
      n_columns += std::ssize(p.tokens);
      n_queries = std::max(n_queries, p.n_recent());
    }
    if (n_queries > 0 && parts.size() > 1) n_queries = n_columns;
    n_padded = decoding && n_columns == 1 && !pad_alone ? 1 : round_up(n_columns, kExtendPad);
    if (n_queries > 0 && decoding) n_queries = n_padded;  // a graph for more columns keeps as many
    query_column = decoding ? 0 : n_columns - n_queries;
  }

  std::span<const StepPart> parts;
  bool decoding;
  bool last_only;                           // logits are wanted of the last token of each part alone
  int64_t n_columns = 0;                    // tokens of all parts
  int64_t n_padded = 0;                     // columns of the graph
  int64_t n_queries = 0, query_column = 0;  // columns whose queries somebody keeps, and the first of them
  StepAttention attention;
};

class StepInput {
 public:
  virtual ~StepInput() = default;
  virtual void set_input(const StepBatch& batch) = 0;
  virtual bool can_reuse(const StepBatch&) const { return false; }

 protected:
  static ggml_tensor* tensor(ggml_context* ctx, ggml_type type, int64_t n) {
    ggml_tensor* t = ggml_new_tensor_1d(ctx, type, n);
    ggml_set_input(t);
    return t;
  }
};

struct TokensInput : StepInput {
  // A graph of up to so many columns serves for fewer, so that switching between drafts and single tokens
  // builds none; but not for long, as columns of padding take their time too.
  static constexpr int64_t kDraftColumns = 8;
  static constexpr int kMostNarrow = 6;  // batches in a row
  int64_t n_most;
  int n_narrow = 0;              // batches in a row that it was too wide for
  ggml_tensor *ids, *positions;  // I32 [n_padded of the batch that it was built for]
  int64_t n_row_columns = 0;     // that RowProducts computes; of questions their last tokens' alone

  // by_rows: all products are RowProducts', which give a column its bits whatever is beside it.
  TokensInput(ggml_context* ctx, const StepBatch& batch, bool by_rows)
      : n_most(by_rows ? kDraftColumns : 0),
        ids(tensor(ctx, GGML_TYPE_I32, batch.n_padded)),
        positions(tensor(ctx, GGML_TYPE_I32, batch.n_padded)) {}

  void set_input(const StepBatch& batch) override {
    std::vector<int32_t> all, where;
    for (const StepPart& p : batch.parts) {
      all.insert(all.end(), p.tokens.begin(), p.tokens.end());
      for (int64_t t = 0; t < std::ssize(p.tokens); ++t)
        where.push_back(static_cast<int32_t>(p.sequence->next_position + t));
    }
    const int32_t of_padding = where.back();
    all.resize(static_cast<size_t>(ids->ne[0]), 0);
    where.resize(static_cast<size_t>(ids->ne[0]), of_padding);
    Compute::set(ids, all);
    Compute::set(positions, where);
    n_row_columns = batch.decoding ? batch.n_columns : std::ssize(batch.parts);
    n_narrow = batch.n_padded < ids->ne[0] ? n_narrow + 1 : 0;
  }
  bool can_reuse(const StepBatch& batch) const override {
    return ids->ne[0] == batch.n_padded ||
           (ids->ne[0] > batch.n_padded && ids->ne[0] <= n_most && n_narrow < kMostNarrow);
  }
};

struct OutRowsInput : StepInput {
  ggml_tensor* columns;  // I32 [parts], those whose logits are wanted

  OutRowsInput(ggml_context* ctx, const StepBatch& batch)
      : columns(tensor(ctx, GGML_TYPE_I32, std::ssize(batch.parts))) {}

  void set_input(const StepBatch& batch) override {
    std::vector<int32_t> last;
    for (const AttentionSpan& s : batch.attention.spans)
      last.push_back(static_cast<int32_t>(s.column + s.n_new - 1));
    Compute::set(columns, last);
  }
};

// The sequences, as custom ops find them while they run.
struct SequencesInput : StepInput {
  StepAttention attention;
  bool decoding;
  std::vector<int64_t> most_blocks;  // per layer

  SequencesInput(ggml_context*, const StepBatch& batch, std::span<const LayerShape> layers)
      : attention(batch.attention), decoding(batch.decoding) {
    // The next 128 tokens of each sequence find room, a block more for each head.
    const int64_t n_more = round_up(std::ssize(batch.parts), kExtendPad);
    for (const LayerShape& l : layers) {
      const int64_t n = n_attention_blocks(attention, std::ssize(most_blocks)) + n_more * l.n_head_kv;
      most_blocks.push_back(decoding ? n : 0);
    }
  }

  void set_input(const StepBatch& batch) override { attention = batch.attention; }
  bool can_reuse(const StepBatch& batch) const override {
    if (!decoding || !batch.decoding) return false;
    for (size_t il = 0; il < most_blocks.size(); ++il) {
      if (n_attention_blocks(batch.attention, static_cast<int64_t>(il)) > most_blocks[il]) return false;
    }
    return true;
  }
};

// For attention made of standard ops, which has one sequence's lengths built in.
struct MaskInput : StepInput {
  RaggedMask mask;
  ggml_tensor* data;  // F16 [mask.n_elements()]

  MaskInput(ggml_context* ctx, const RaggedMask& of)
      : mask(of), data(tensor(ctx, GGML_TYPE_F16, of.n_elements())) {}
  void set_input(const StepBatch&) override { mask.write(data); }
};

struct TailRowsInput : StepInput {
  int64_t n_head_kv;
  ggml_tensor* rows;  // I64 [n_head_kv * n_columns], see PortableInputs

  TailRowsInput(ggml_context* ctx, const StepBatch& batch, int64_t n_heads)
      : n_head_kv(n_heads), rows(tensor(ctx, GGML_TYPE_I64, n_heads * batch.n_columns)) {}
  void set_input(const StepBatch& batch) override {
    Compute::set(rows, tail_rows(batch.attention.spans[0], n_head_kv));
  }
};

}  // namespace curdkv
