// Qwen 3: every query and key head is RMS-normalised before RoPE; NEOX RoPE; heads wider than n_embd /
// n_head.
#include "model/layer_blocks.h"

namespace curdkv {
namespace {

Result<HParams> read(const GgufFile& file) {
  return read_hparams(file, {.pairing = RopePairing::neox});
}

constexpr TensorSpec::Size kHead = [](const HParams&, const LayerShape& l) { return l.d_head_k; };
constexpr auto kTensors =
    joined(kPlainTensors, std::to_array<TensorSpec>({
                              {"attn_q_norm.weight", &LayerWeights::q_norm, kHead, nullptr, true},
                              {"attn_k_norm.weight", &LayerWeights::k_norm, kHead, nullptr, true},
                          }));

ggml_tensor* build_layer(const LayerGraph& g, ggml_tensor* x) {
  Projections p = g.project(x);
  p.q = rms_norm(g.ctx, p.q, g.w.q_norm, g.hp.rms_eps);
  p.k = rms_norm(g.ctx, p.k, g.w.k_norm, g.hp.rms_eps);
  return g.feed_forward(g.attention(p, x));
}

}  // namespace

const Architecture kQwen3 = {"qwen3", "Qwen 3 (dense)", read, kTensors, build_layer};

}  // namespace curdkv
