#include "model/products.h"

#include "model/layer_blocks.h"

namespace curdkv {

ggml_tensor* Products::linear(ggml_context* ctx, const Linear& matrix, ggml_tensor* x) {
  ggml_tensor* y = multiply(ctx, matrix.w, x);
  return matrix.b == nullptr ? y : ggml_add(ctx, y, matrix.b);
}

Products::Projected Products::project(ggml_context* ctx, const Norm& norm, std::span<const Linear> matrices,
                                      ggml_tensor* x) {
  Projected p = {rms_norm(ctx, x, norm.weight, norm.eps), {}};
  for (const Linear& matrix : matrices) p.results.push_back(linear(ctx, matrix, p.normed));
  return p;
}

ggml_tensor* Products::add_product(ggml_context* ctx, const Linear& matrix, ggml_tensor* x, ggml_tensor* to) {
  return ggml_add(ctx, linear(ctx, matrix, x), to);
}

ggml_tensor* Products::feed_forward(ggml_context* ctx, const FeedForward& w, ggml_tensor* x) {
  ggml_tensor* normed = rms_norm(ctx, x, w.norm.weight, w.norm.eps);
  ggml_tensor* gate = linear(ctx, w.gate, normed);
  ggml_tensor* up = linear(ctx, w.up, normed);
  return add_product(ctx, w.down, ggml_swiglu_split(ctx, gate, up), x);
}

}  // namespace curdkv
