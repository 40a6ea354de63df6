// The tensors of a layer: what they are called in a file, their shapes, and where they go.
#pragma once

#include <ggml.h>

#include <algorithm>
#include <array>

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

// One tensor of a layer: its name after "blk.N.", where it goes, its shape, what it is used for.
struct TensorSpec {
  using Size = int64_t (*)(const HParams&, const LayerShape&);
  const char* name;
  ggml_tensor* LayerWeights::*member;
  Size ne0;
  Size ne1;  // nullptr: a vector
  bool required;
};

// All that llama, deci and qwen2 have, and qwen3 beside its own. Biases are there or not.
inline constexpr auto kPlainTensors = [] {
  using H = const HParams&;
  using L = const LayerShape&;
  constexpr TensorSpec::Size n_embd = [](H hp, L) { return hp.n_embd; };
  constexpr TensorSpec::Size n_ff = [](H, L l) { return l.n_ff; };
  constexpr TensorSpec::Size n_q = [](H, L l) { return l.d_head_k * l.n_head; };
  constexpr TensorSpec::Size n_k = [](H, L l) { return l.d_head_k * l.n_head_kv; };
  constexpr TensorSpec::Size n_v = [](H, L l) { return l.d_head_v * l.n_head_kv; };
  constexpr TensorSpec::Size n_o = [](H, L l) { return l.d_head_v * l.n_head; };
  return std::to_array<TensorSpec>({
      {"attn_norm.weight", &LayerWeights::attn_norm, n_embd, nullptr, true},
      {"attn_q.weight", &LayerWeights::wq, n_embd, n_q, true},
      {"attn_k.weight", &LayerWeights::wk, n_embd, n_k, true},
      {"attn_v.weight", &LayerWeights::wv, n_embd, n_v, true},
      {"attn_output.weight", &LayerWeights::wo, n_o, n_embd, true},
      {"attn_q.bias", &LayerWeights::bq, n_q, nullptr, false},
      {"attn_k.bias", &LayerWeights::bk, n_k, nullptr, false},
      {"attn_v.bias", &LayerWeights::bv, n_v, nullptr, false},
      {"attn_output.bias", &LayerWeights::bo, n_embd, nullptr, false},
      {"ffn_norm.weight", &LayerWeights::ffn_norm, n_embd, nullptr, true},
      {"ffn_gate.weight", &LayerWeights::w_gate, n_embd, n_ff, true},
      {"ffn_up.weight", &LayerWeights::w_up, n_embd, n_ff, true},
      {"ffn_down.weight", &LayerWeights::w_down, n_ff, n_embd, true},
      {"ffn_gate.bias", &LayerWeights::b_gate, n_ff, nullptr, false},
      {"ffn_up.bias", &LayerWeights::b_up, n_ff, nullptr, false},
      {"ffn_down.bias", &LayerWeights::b_down, n_embd, nullptr, false},
  });
}();

template <size_t A, size_t B>
constexpr std::array<TensorSpec, A + B> joined(const std::array<TensorSpec, A>& a,
                                               const std::array<TensorSpec, B>& b) {
  std::array<TensorSpec, A + B> all = {};
  std::copy(b.begin(), b.end(), std::copy(a.begin(), a.end(), all.begin()));
  return all;
}

}  // namespace curdkv
