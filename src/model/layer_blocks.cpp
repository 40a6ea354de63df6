#include "model/layer_blocks.h"

#include <cmath>

namespace curdkv {

ggml_tensor* LayerGraph::named(ggml_tensor* t, const char* name) const {
  ggml_format_name(t, "%s.%d", name, static_cast<int>(il));
  return t;
}

Projections LayerGraph::project(ggml_tensor* x) const {
  const LayerShape& s = shape();
  const Linear matrices[] = {{w.wq, w.bq}, {w.wk, w.bk}, {w.wv, w.bv}};
  const Products::Projected p = products.project(ctx, {w.attn_norm, hp.rms_eps}, matrices, x);
  const auto heads = [&](ggml_tensor* y, int64_t d_head, int64_t n_head) {
    return ggml_view_3d(ctx, y, d_head, n_head, y->ne[1], static_cast<size_t>(d_head) * y->nb[0], y->nb[1],
                        0);
  };
  return {heads(p.results[0], s.d_head_k, s.n_head), heads(p.results[1], s.d_head_k, s.n_head_kv),
          heads(p.results[2], s.d_head_v, s.n_head_kv), named(p.normed, "attn_norm")};
}

ggml_tensor* LayerGraph::attention(const Projections& p, ggml_tensor* x) const {
  ggml_tensor* q = named(rotate(ctx, hp.rope, rope_freqs, p.q, positions), "q");
  ggml_tensor* k = named(rotate(ctx, hp.rope, rope_freqs, p.k, positions), "k");
  ggml_tensor* attended = named(attend({q, k, named(p.v, "v"), p.x}), "attention");
  const Linear matrix = {w.wo, w.bo};
  if (out_rows == nullptr) return named(products.add_product(ctx, matrix, attended, x), "ffn_in");
  ggml_tensor* out = ggml_get_rows(ctx, products.linear(ctx, matrix, attended), out_rows);
  return named(ggml_add(ctx, out, ggml_get_rows(ctx, x, out_rows)), "ffn_in");
}

ggml_tensor* LayerGraph::feed_forward(ggml_tensor* x) const {
  return named(
      products.feed_forward(
          ctx, {{w.ffn_norm, hp.rms_eps}, {w.w_gate, w.b_gate}, {w.w_up, w.b_up}, {w.w_down, w.b_down}}, x),
      "layer_out");
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
