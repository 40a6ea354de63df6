// How a layer's matrices are multiplied, and what lies between two products.
#pragma once

#include <ggml.h>

#include <functional>
#include <span>
#include <vector>

namespace curdkv {

// How w x is computed: ggml_mul_mat, or what stands in for it. x: F32 [n_in, n].
using Multiply = std::function<ggml_tensor*(ggml_context*, ggml_tensor* w, ggml_tensor* x)>;

struct Linear {
  ggml_tensor* w;  // [n_in, n_out]
  ggml_tensor* b;  // F32 [n_out], or null
};

// A root-mean-square norm.
struct Norm {
  ggml_tensor* weight;  // F32 [n_in]
  float eps;
};

// The passes of a layer with columns x, F32 [n_in, n]: made of products and standard operations, where a
// class does not do them at once.
class Products {
 public:
  virtual ~Products() = default;

  virtual ggml_tensor* multiply(ggml_context* ctx, ggml_tensor* w, ggml_tensor* x) = 0;

  struct Projected {
    ggml_tensor* normed;                // norm(x)
    std::vector<ggml_tensor*> results;  // of each matrix, F32 [n_out, n], whose columns may lie apart
  };
  virtual Projected project(ggml_context* ctx, const Norm& norm, std::span<const Linear> matrices,
                            ggml_tensor* x);

  // to + (w x + b), F32 [n_out, n].
  virtual ggml_tensor* add_product(ggml_context* ctx, const Linear& matrix, ggml_tensor* x, ggml_tensor* to);

  struct FeedForward {
    Norm norm;
    Linear gate, up, down;
  };
  // SwiGLU behind its norm, added to its input x.
  virtual ggml_tensor* feed_forward(ggml_context* ctx, const FeedForward& w, ggml_tensor* x);

  ggml_tensor* linear(ggml_context* ctx, const Linear& matrix, ggml_tensor* x);
};

// Those of a function.
class ProductsBy final : public Products {
 public:
  explicit ProductsBy(Multiply multiply) : multiply_(std::move(multiply)) {}
  ggml_tensor* multiply(ggml_context* ctx, ggml_tensor* w, ggml_tensor* x) override {
    return multiply_(ctx, w, x);
  }

 private:
  Multiply multiply_;
};

}  // namespace curdkv
