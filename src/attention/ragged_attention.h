// Attention of new tokens over what their sequences hold, in two forms with one meaning:
//  - on the CPU, custom ops over all sequences of a step at once, which read each K and V row once for all
//  query
//    heads of its group, split evenly over threads whatever the lengths. They find rows and lengths when they
//    run, so that a graph serves other sequences too. A head's rows are taken in fixed blocks, wherever they
//    lie, whose results are folded in order: the result depends neither on the number of threads, nor on how
//    the queries were chunked, nor on how the rows are spread over blocks and tails, nor on the company;
//  - anywhere else, for one sequence, one ggml_flash_attn_ext for each run of KV heads of equal length.
// Token i of a sequence's n new ones sees every row its head held before, and the first i + 1 of the new
// ones.
#pragma once

#include <ggml.h>

#include <vector>

#include "cache/sequence_cache.h"
#include "compute/compute.h"

namespace curdkv {

// One sequence's new tokens: columns [column, column + n_new) of the step.
struct AttentionSpan {
  const SequenceCache* cache = nullptr;  // before the new rows, for which there is room
  int64_t n_new = 1;
  int64_t column = 0;
};

// What the custom ops read while they run; must outlive the graph. The spans are either of one token each or
// of several: `decoding`.
struct StepAttention {
  bool decoding = true;
  std::vector<AttentionSpan> spans;
};

// One layer's attention.
struct AttentionLayer {
  int64_t il;
  int64_t n_group = 1;  // query heads per KV head
  float scale = 1;      // of Q K^T
};

// Blocks of rows that decoding works on in layer il, one token further.
int64_t n_attention_blocks(const StepAttention& step, int64_t il);

// Stores the new rows of the layer behind those that the sequences hold, and attends. q: F32 [d_head_k,
// n_head, n_padded], contiguous; k, v: F32 [d_head, n_head_kv, n_padded], rows contiguous. most_blocks: those
// that a graph which decodes is to serve for, at least n_attention_blocks(); 0 for a question's, whose spans
// are of several tokens. Returns F32 [d_head_v * n_head, n_padded]; columns of padding are zero.
ggml_tensor* ragged_attention_cpu(Compute& compute, const StepAttention* step, const AttentionLayer& layer,
                                  int64_t most_blocks, ggml_tensor* q, ggml_tensor* k, ggml_tensor* v);

// One causal mask for heads of any length: row i is `width` zeros, i + 1 more zeros, then -inf up to the
// row's end; a head with `length` rows starts reading at column width - length. Needs width >= every length.
struct RaggedMask {
  int64_t width;  // zeros before the new tokens
  int64_t n_new;
  int64_t n_elements() const {
    return (width + n_new) * (n_new + 1);
  }                                     // one row more: views run past the last
  void write(ggml_tensor* mask) const;  // F16 [n_elements()], allocated
  // The mask of a head that held `length` rows: F16 [width + n_new, n_new], columns from length + n_new
  // unused.
  ggml_tensor* view(ggml_context* ctx, ggml_tensor* mask, int64_t length) const;
  // The same as a tensor of its own, F16 [length + n, n] for the first n of the new tokens: not every backend
  // takes a mask whose rows are longer than there are keys.
  ggml_tensor* copy(ggml_context* ctx, ggml_tensor* mask, int64_t length, int64_t n) const;
};

// Inputs of the portable form, which its graph needs set before it runs.
struct PortableInputs {
  ggml_tensor* rows = nullptr;  // I64 [n_head_kv * n_new]: where new rows go in the tail's last segment
  ggml_tensor* mask = nullptr;  // F16, RaggedMask's data, null if n_new is 1
};

// The same with standard ops, for the one span. Lengths are fixed when the graph is built.
ggml_tensor* ragged_attention_portable(Compute& compute, const StepAttention& step,
                                       const AttentionLayer& layer, ggml_tensor* q, ggml_tensor* k,
                                       ggml_tensor* v, const PortableInputs& inputs, const RaggedMask& mask);

// What PortableInputs::rows holds, where a layer has so many KV heads.
std::vector<int64_t> tail_rows(const AttentionSpan& span, int64_t n_head_kv);

}  // namespace curdkv
