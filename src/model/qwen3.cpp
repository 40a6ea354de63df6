// Qwen 3: every query and key head is RMS-normalised before RoPE; NEOX RoPE; heads wider than n_embd /
// n_head.
#include "model/architecture.h"

namespace curdkv {
namespace {

int64_t d_head(const HParams& hp) {
  return hp.d_head_k;
}

constexpr TensorSpec kExtra[] = {
    {"attn_q_norm.weight", &LayerWeights::q_norm, d_head, nullptr, true},
    {"attn_k_norm.weight", &LayerWeights::k_norm, d_head, nullptr, true},
};

Projections project(ggml_context* ctx, const Multiply& multiply, const HParams& hp, const LayerWeights& w,
                    ggml_tensor* x) {
  Projections p = project_plain(ctx, multiply, hp, w, x);
  p.q = rms_norm(ctx, p.q, w.q_norm, hp.rms_eps);
  p.k = rms_norm(ctx, p.k, w.k_norm, hp.rms_eps);
  return p;
}

}  // namespace

const Architecture kQwen3 = {"qwen3", "Qwen 3 (dense)", RopePairing::neox, kExtra, project};

}  // namespace curdkv
