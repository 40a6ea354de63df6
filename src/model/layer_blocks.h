// What families build their layers from: norms, projections, RoPE, attention, the feed-forward network. How
// attention finds its keys, and how matrices are multiplied, is the caller's.
#pragma once

#include <functional>

#include "model/architecture.h"
#include "model/products.h"

namespace curdkv {

struct Projections {
  ggml_tensor* q;  // F32 [d_head_k, n_head, n_tokens]
  ggml_tensor* k;  // F32 [d_head_k, n_head_kv, n_tokens]
  ggml_tensor* v;  // F32 [d_head_v, n_head_kv, n_tokens]
  ggml_tensor* x;  // F32 [n_embd, n_tokens], the normed input that they are projections of
};

// Takes what the new tokens project to, queries and keys rotated; stores keys and values and returns the
// attention's output, F32 [d_head_v * n_head, n_tokens].
using Attend = std::function<ggml_tensor*(const Projections&)>;

// The graph of layer il, block by block. Nodes are named, as "q.3" of layer 3.
struct LayerGraph {
  ggml_context* ctx;
  const HParams& hp;
  const LayerWeights& w;
  int64_t il;
  ggml_tensor* rope_freqs;  // F32 [n_rot / 2], may be null
  ggml_tensor* positions;   // I32 [n_tokens]
  ggml_tensor* out_rows;    // I32, the tokens wanted behind the attention, or null for all
  const Attend& attend;
  Products& products;

  const LayerShape& shape() const { return hp.layer(il); }

  // From the layer's input, x, through its norm to queries, keys and values; before RoPE.
  Projections project(ggml_tensor* x) const;
  // RoPE, attention over what the caller holds, the output matrix; added to the layer's input.
  ggml_tensor* attention(const Projections& p, ggml_tensor* x) const;
  // SwiGLU behind its norm; added to its input.
  ggml_tensor* feed_forward(ggml_tensor* x) const;

 private:
  ggml_tensor* named(ggml_tensor* t, const char* name) const;
};

// The whole layer of llama, deci and qwen2.
ggml_tensor* build_plain_layer(const LayerGraph& g, ggml_tensor* x);

// Root-mean-square norm over the first dimension, times weight (F32 [ne0 of x]).
ggml_tensor* rms_norm(ggml_context* ctx, ggml_tensor* x, ggml_tensor* weight, float eps);

// RoPE at the given positions; x: F32 [d_head, n_head, n], positions: I32 [n].
ggml_tensor* rotate(ggml_context* ctx, const RopeParams& rope, ggml_tensor* rope_freqs, ggml_tensor* x,
                    ggml_tensor* positions);

// The same without RoPE's scaling (YaRN), which `times` is undone: once for a rotation that should change no
// length, twice for one that takes back what rotate() did.
ggml_tensor* rotate_keeping_length(ggml_context* ctx, const RopeParams& rope, ggml_tensor* rope_freqs,
                                   ggml_tensor* x, ggml_tensor* positions, int times);

}  // namespace curdkv
