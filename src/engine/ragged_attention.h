// Attention of new queries over one layer of a ragged cache, in two forms with one meaning:
//  - on the CPU, custom ops that read each K and V row once for all query heads of its group, split evenly
//  over
//    threads whatever the lengths. Rows are taken in fixed blocks whose results are folded in order, so the
//    result does not depend on the number of threads or on how the queries were chunked;
//  - anywhere else, one ggml_flash_attn_ext for each run of KV heads of equal length.
// Query i of n new tokens sees every row its head held before, and the first i + 1 of the new ones.
#pragma once

#include <ggml.h>

#include <vector>

#include "cache/ragged_cache.h"
#include "engine/compute.h"

namespace curdkv {

// What the custom ops read while they run; must outlive the graph. Lengths are read from the layer at run
// time, so that a decode graph built once serves until the layer is moved.
struct RaggedAttention {
  const RaggedLayer* layer = nullptr;  // lengths before the new rows
  int64_t n_new = 1;                   // new tokens, their rows already written behind each head's length
  int64_t n_group = 1;                 // query heads per KV head
  float scale = 1;                     // of Q K^T
};

// q: F32 [d_head_k, n_head, n_padded], n_padded >= n_new, contiguous. k, v: the layer's tensors as returned
// by the ops that wrote the new rows. Returns F32 [d_head_v * n_head, n_padded]; columns of padding are zero.
ggml_tensor* ragged_attention_cpu(Compute& compute, const RaggedAttention* state, ggml_tensor* q,
                                  ggml_tensor* k, ggml_tensor* v);

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

// The same with standard ops. mask_data: F16, `mask`'s data, null if n_new is 1. Lengths are fixed when the
// graph is built.
ggml_tensor* ragged_attention_portable(ggml_context* ctx, const RaggedAttention& state, ggml_tensor* q,
                                       ggml_tensor* k, ggml_tensor* v, ggml_tensor* mask_data,
                                       const RaggedMask& mask);

}  // namespace curdkv
