#include "engine/decoder.h"

#include <cmath>

namespace curdkv {
namespace {

ggml_tensor* feed_forward(ggml_context* ctx, const Multiply& multiply, const LayerWeights& w,
                          ggml_tensor* x) {
  ggml_tensor* gate = linear(ctx, multiply, w.w_gate, w.b_gate, x);
  ggml_tensor* up = linear(ctx, multiply, w.w_up, w.b_up, x);
  return linear(ctx, multiply, w.w_down, w.b_down, ggml_swiglu_split(ctx, gate, up));
}

ggml_tensor* named(ggml_tensor* t, const char* name, int64_t il) {
  ggml_format_name(t, "%s.%d", name, static_cast<int>(il));
  return t;
}

}  // namespace

ggml_tensor* rotate(ggml_context* ctx, const RopeParams& r, ggml_tensor* rope_freqs, ggml_tensor* x,
                    ggml_tensor* positions) {
  const int mode = r.pairing == RopePairing::neox ? GGML_ROPE_TYPE_NEOX : GGML_ROPE_TYPE_NORMAL;
  return ggml_rope_ext(ctx, x, positions, rope_freqs, r.n_rot, mode, r.n_ctx_orig, r.freq_base, r.freq_scale,
                       r.ext_factor, r.attn_factor, r.beta_fast, r.beta_slow);
}

ggml_tensor* rotate_keeping_length(ggml_context* ctx, const RopeParams& rope, ggml_tensor* rope_freqs,
                                   ggml_tensor* x, ggml_tensor* positions, int times) {
  // What ggml multiplies rotated elements by.
  const float magnitude =
      rope.attn_factor * (rope.ext_factor != 0 ? 1.0f + 0.1f * std::log(1.0f / rope.freq_scale) : 1.0f);
  RopeParams plain = rope;
  for (int i = 0; i < times; ++i) plain.attn_factor /= magnitude;
  return rotate(ctx, plain, rope_freqs, x, positions);
}

ggml_tensor* build_layer(ggml_context* ctx, const Model::Impl& model, int64_t il, ggml_tensor* x,
                         ggml_tensor* positions, ggml_tensor* out_rows, const Attend& attend,
                         const Multiply& multiply) {
  const HParams& hp = model.hp;
  const LayerWeights& w = model.weights.layers[static_cast<size_t>(il)];

  ggml_tensor* normed = named(rms_norm(ctx, x, w.attn_norm, hp.rms_eps), "attn_norm", il);
  Projections p = model.arch->project(ctx, multiply, hp, w, normed);
  p.q = named(rotate(ctx, hp.rope, model.weights.rope_freqs, p.q, positions), "q", il);
  p.k = named(rotate(ctx, hp.rope, model.weights.rope_freqs, p.k, positions), "k", il);
  named(p.v, "v", il);
  ggml_tensor* attended = named(attend(p), "attention", il);
  ggml_tensor* out = named(linear(ctx, multiply, w.wo, w.bo, attended), "attn_out", il);
  if (out_rows != nullptr) {
    out = ggml_get_rows(ctx, out, out_rows);
    x = ggml_get_rows(ctx, x, out_rows);
  }
  ggml_tensor* mid = named(ggml_add(ctx, out, x), "ffn_in", il);

  ggml_tensor* ffn =
      feed_forward(ctx, multiply, w, named(rms_norm(ctx, mid, w.ffn_norm, hp.rms_eps), "ffn_norm", il));
  return named(ggml_add(ctx, ffn, mid), "layer_out", il);
}

LogitsNodes build_logits(ggml_context* ctx, const Model::Impl& model, ggml_tensor* x,
                         const Multiply& multiply) {
  LogitsNodes nodes;
  nodes.normed = rms_norm(ctx, x, model.weights.output_norm, model.hp.rms_eps);
  nodes.logits = multiply(ctx, model.weights.output, nodes.normed);
  ggml_set_name(nodes.logits, "logits");
  ggml_set_output(nodes.normed);
  ggml_set_output(nodes.logits);
  return nodes;
}

}  // namespace curdkv
