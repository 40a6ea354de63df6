// The decoder's graph, layer by layer; how attention finds its keys is the caller's.
#pragma once

#include <ggml.h>

#include <functional>

#include "engine/logits.h"
#include "model/model_impl.h"

namespace curdkv {

// Takes rotated queries [d_head_k, n_head, n], rotated keys [d_head_k, n_head_kv, n] and values
// [d_head_v, n_head_kv, n] of the new tokens, all F32; stores keys and values and returns the attention's
// output, F32 [d_head_v * n_head, n].
using Attend = std::function<ggml_tensor*(const Projections&)>;

// Layer il over x, F32 [n_embd, n]. positions: I32 [n]. out_rows: I32, the rows wanted from here on, or null
// for all. Returns F32 [n_embd, n or rows].
ggml_tensor* build_layer(ggml_context* ctx, const Model::Impl& model, int64_t il, ggml_tensor* x,
                         ggml_tensor* positions, ggml_tensor* out_rows, const Attend& attend,
                         const Multiply& multiply = ggml_mul_mat);

// RoPE at the given positions; x: F32 [d_head, n_head, n], positions: I32 [n].
ggml_tensor* rotate(ggml_context* ctx, const RopeParams& rope, ggml_tensor* rope_freqs, ggml_tensor* x,
                    ggml_tensor* positions);

// The same without RoPE's scaling (YaRN), which `times` is undone: once for a rotation that should change no
// length, twice for one that takes back what rotate() did.
ggml_tensor* rotate_keeping_length(ggml_context* ctx, const RopeParams& rope, ggml_tensor* rope_freqs,
                                   ggml_tensor* x, ggml_tensor* positions, int times);

// Final norm and output matrix; read_logits() gives what they come to.
LogitsNodes build_logits(ggml_context* ctx, const Model::Impl& model, ggml_tensor* x,
                         const Multiply& multiply = ggml_mul_mat);

}  // namespace curdkv
