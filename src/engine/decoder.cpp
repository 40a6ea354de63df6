#include "engine/decoder.h"

namespace curdkv {

ggml_tensor* build_layer(ggml_context* ctx, const Model::Impl& model, int64_t il, ggml_tensor* x,
                         ggml_tensor* positions, ggml_tensor* out_rows, const Attend& attend,
                         Products& products) {
  const LayerWeights& w = model.weights.layers[static_cast<size_t>(il)];
  return model.arch->build_layer(
      {ctx, model.hp, w, il, model.weights.rope_freqs, positions, out_rows, attend, products}, x);
}

LogitsNodes build_logits(ggml_context* ctx, const Model::Impl& model, ggml_tensor* x, Products& products) {
  LogitsNodes nodes;
  nodes.normed = rms_norm(ctx, x, model.weights.output_norm, model.hp.rms_eps);
  nodes.logits = products.multiply(ctx, model.weights.output, nodes.normed);
  ggml_set_name(nodes.logits, "logits");
  ggml_set_output(nodes.normed);
  ggml_set_output(nodes.logits);
  return nodes;
}

}  // namespace curdkv
