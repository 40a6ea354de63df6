#include "model/architecture.h"

#include <array>

namespace curdkv {
namespace {

int64_t n_embd(const HParams& hp) {
  return hp.n_embd;
}
int64_t n_ff(const HParams& hp) {
  return hp.n_ff;
}
int64_t n_q(const HParams& hp) {
  return hp.d_head_k * hp.n_head;
}
int64_t n_k(const HParams& hp) {
  return hp.d_head_k * hp.n_head_kv;
}
int64_t n_v(const HParams& hp) {
  return hp.d_head_v * hp.n_head_kv;
}
int64_t n_o(const HParams& hp) {
  return hp.d_head_v * hp.n_head;
}

constexpr TensorSpec kCommon[] = {
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
};

constexpr std::array<const Architecture*, 3> kArchitectures = {&kLlama, &kQwen2, &kQwen3};

}  // namespace

std::span<const Architecture* const> architectures() {
  return kArchitectures;
}

const Architecture* find_architecture(const std::string& name) {
  for (const Architecture* a : kArchitectures) {
    if (name == a->name) return a;
  }
  return nullptr;
}

std::span<const TensorSpec> common_tensors() {
  return kCommon;
}

ggml_tensor* linear(ggml_context* ctx, const Multiply& multiply, ggml_tensor* w, ggml_tensor* b,
                    ggml_tensor* x) {
  ggml_tensor* y = multiply(ctx, w, x);
  return b == nullptr ? y : ggml_add(ctx, y, b);
}

ggml_tensor* rms_norm(ggml_context* ctx, ggml_tensor* x, ggml_tensor* weight, float eps) {
  return ggml_mul(ctx, ggml_rms_norm(ctx, x, eps), weight);
}

Projections project_plain(ggml_context* ctx, const Multiply& multiply, const HParams& hp,
                          const LayerWeights& w, ggml_tensor* x) {
  const int64_t n_tokens = x->ne[1];
  return {
      ggml_reshape_3d(ctx, linear(ctx, multiply, w.wq, w.bq, x), hp.d_head_k, hp.n_head, n_tokens),
      ggml_reshape_3d(ctx, linear(ctx, multiply, w.wk, w.bk, x), hp.d_head_k, hp.n_head_kv, n_tokens),
      ggml_reshape_3d(ctx, linear(ctx, multiply, w.wv, w.bv, x), hp.d_head_v, hp.n_head_kv, n_tokens),
  };
}

}  // namespace curdkv
