// Causal attention of a chunk of the context over one layer's uncompressed keys and values, on the CPU.
#pragma once

#include "compute/compute.h"

namespace curdkv {

struct Bf16Tiles;

// Whether prefill_attention_cpu() takes heads of these sizes.
bool prefill_attention_takes(int64_t d_k, int64_t d_v);

// q: F32 [d_k, n_head, n], n a multiple of 32; k, v: F16 or F32 [d_k or d_v, n_keys, n_head_kv], whose last n
// keys are the chunk's own. first: per KV head, the first of the keys that it holds; empty: all. Returns F32
// [d_v * n_head, n]. A token's result does not depend on the chunk it comes in. tiles: to be used where they
// can; may be null.
ggml_tensor* prefill_attention_cpu(Compute& compute, ggml_tensor* q, ggml_tensor* k, ggml_tensor* v,
                                   float scale, const std::vector<int64_t>& first = {},
                                   const Bf16Tiles* tiles = nullptr);

}  // namespace curdkv
