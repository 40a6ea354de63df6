#include "model/layer_blocks.h"

#include <cmath>

namespace curdkv {

ggml_tensor* LayerGraph::named(ggml_tensor* t, const char* name) const {
  ggml_format_name(t, "%s.%d", name, static_cast<int>(il));
  return t;
}

// All products with a layer's matrices go through here. b may be null.
ggml_tensor* LayerGraph::linear(ggml_tensor* matrix, ggml_tensor* b, ggml_tensor* x) const {
  ggml_tensor* y = multiply(ctx, matrix, x);
  return b == nullptr ? y : ggml_add(ctx, y, b);
}

Projections LayerGraph::project(ggml_tensor* x) const {
  const LayerShape& s = shape();
  const int64_t n = x->ne[1];
  x = named(rms_norm(ctx, x, w.attn_norm, hp.rms_eps), "attn_norm");
  return {
      ggml_reshape_3d(ctx, linear(w.wq, w.bq, x), s.d_head_k, s.n_head, n),
      ggml_reshape_3d(ctx, linear(w.wk, w.bk, x), s.d_head_k, s.n_head_kv, n),
      ggml_reshape_3d(ctx, linear(w.wv, w.bv, x), s.d_head_v, s.n_head_kv, n),
      x,
  };
}

ggml_tensor* LayerGraph::attention(const Projections& p, ggml_tensor* x) const {
  ggml_tensor* q = named(rotate(ctx, hp.rope, rope_freqs, p.q, positions), "q");
  ggml_tensor* k = named(rotate(ctx, hp.rope, rope_freqs, p.k, positions), "k");
  ggml_tensor* attended = named(attend({q, k, named(p.v, "v"), p.x}), "attention");
  ggml_tensor* out = named(linear(w.wo, w.bo, attended), "attn_out");
  if (out_rows != nullptr) {
    out = ggml_get_rows(ctx, out, out_rows);
    x = ggml_get_rows(ctx, x, out_rows);
  }
  return named(ggml_add(ctx, out, x), "ffn_in");
}

ggml_tensor* LayerGraph::feed_forward(ggml_tensor* x) const {
  ggml_tensor* normed = named(rms_norm(ctx, x, w.ffn_norm, hp.rms_eps), "ffn_norm");
  ggml_tensor* gate = linear(w.w_gate, w.b_gate, normed);
  ggml_tensor* up = linear(w.w_up, w.b_up, normed);
  ggml_tensor* down = linear(w.w_down, w.b_down, ggml_swiglu_split(ctx, gate, up));
  return named(ggml_add(ctx, down, x), "layer_out");
}

ggml_tensor* build_plain_layer(const LayerGraph& g, ggml_tensor* x) {
  return g.feed_forward(g.attention(g.project(x), x));
}

ggml_tensor* rms_norm(ggml_context* ctx, ggml_tensor* x, ggml_tensor* weight, float eps) {
  return ggml_mul(ctx, ggml_rms_norm(ctx, x, eps), weight);
}

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

}  // namespace curdkv
