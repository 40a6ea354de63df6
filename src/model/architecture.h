// What makes one model family: its name, its tensors, and how its queries, keys and values come about.
// A family is one file (llama.cpp, qwen2.cpp, qwen3.cpp) and one line in architectures().
#pragma once

#include <ggml.h>

#include <array>
#include <functional>
#include <span>
#include <string>

#include "model/hparams.h"

namespace curdkv {

struct LayerWeights {
  ggml_tensor* attn_norm = nullptr;  // F32 [n_embd]
  ggml_tensor* wq = nullptr;         // any [n_embd, d_head_k * n_head]
  ggml_tensor* wk = nullptr;         // any [n_embd, d_head_k * n_head_kv]
  ggml_tensor* wv = nullptr;         // any [n_embd, d_head_v * n_head_kv]
  ggml_tensor* wo = nullptr;         // any [d_head_v * n_head, n_embd]
  ggml_tensor* bq = nullptr;         // F32 [d_head_k * n_head], may be absent
  ggml_tensor* bk = nullptr;         // F32 [d_head_k * n_head_kv], may be absent
  ggml_tensor* bv = nullptr;         // F32 [d_head_v * n_head_kv], may be absent
  ggml_tensor* bo = nullptr;         // F32 [n_embd], may be absent
  ggml_tensor* q_norm = nullptr;     // F32 [d_head_k], qwen3
  ggml_tensor* k_norm = nullptr;     // F32 [d_head_k], qwen3
  ggml_tensor* ffn_norm = nullptr;   // F32 [n_embd]
  ggml_tensor* w_gate = nullptr;     // any [n_embd, n_ff]
  ggml_tensor* w_up = nullptr;       // any [n_embd, n_ff]
  ggml_tensor* w_down = nullptr;     // any [n_ff, n_embd]
  ggml_tensor* b_gate = nullptr;     // F32 [n_ff], may be absent
  ggml_tensor* b_up = nullptr;       // F32 [n_ff], may be absent
  ggml_tensor* b_down = nullptr;     // F32 [n_embd], may be absent
};

// All matrices of a layer, as its graph multiplies with them.
inline std::array<ggml_tensor*, 7> matrices_of(const LayerWeights& w) {
  return {w.wq, w.wk, w.wv, w.wo, w.w_gate, w.w_up, w.w_down};
}

// One tensor of a layer: its name after "blk.N.", where it goes, its shape, what it is used for.
struct TensorSpec {
  const char* name;
  ggml_tensor* LayerWeights::*member;
  int64_t (*ne0)(const HParams&);
  int64_t (*ne1)(const HParams&);  // nullptr: a vector
  bool required;
};

struct Projections {
  ggml_tensor* q;  // F32 [d_head_k, n_head, n_tokens], before RoPE
  ggml_tensor* k;  // F32 [d_head_k, n_head_kv, n_tokens], before RoPE
  ggml_tensor* v;  // F32 [d_head_v, n_head_kv, n_tokens]
};

// How w x is computed: ggml_mul_mat, or what stands in for it while prefilling. x: F32 [n_in, n_tokens].
using Multiply = std::function<ggml_tensor*(ggml_context*, ggml_tensor* w, ggml_tensor* x)>;

struct Architecture {
  const char* name;     // general.architecture
  const char* members;  // what users know it as
  RopePairing rope;
  std::span<const TensorSpec> extra_tensors;  // beyond common_tensors()
  Projections (*project)(ggml_context*, const Multiply&, const HParams&, const LayerWeights&, ggml_tensor* x);
};

extern const Architecture kLlama, kQwen2, kQwen3;

std::span<const Architecture* const> architectures();
const Architecture* find_architecture(const std::string& name);  // nullptr if not supported

std::span<const TensorSpec> common_tensors();  // those every family has

// W x + b; b may be null. x: F32 [n_in, n_tokens].
ggml_tensor* linear(ggml_context* ctx, const Multiply& multiply, ggml_tensor* w, ggml_tensor* b,
                    ggml_tensor* x);

// Root-mean-square norm over the first dimension, times weight (F32 [ne0 of x]).
ggml_tensor* rms_norm(ggml_context* ctx, ggml_tensor* x, ggml_tensor* weight, float eps);

// Q, K and V with biases where there are any; what llama and qwen2 do.
Projections project_plain(ggml_context*, const Multiply&, const HParams&, const LayerWeights&,
                          ggml_tensor* x);

}  // namespace curdkv
