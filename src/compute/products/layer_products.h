// The matrix products of the layer that a prefill is at: its weights unpacked for a ProductKernel, in one
// scratch that every layer reuses, and the graph operations that multiply by them.
#pragma once

#include <map>
#include <memory>
#include <new>
#include <span>
#include <utility>

#include "compute/compute.h"
#include "compute/products/kernel.h"
#include "model/layer_blocks.h"
#include "model/model_impl.h"

namespace curdkv {

struct UnpackedMatrix {
  const ProductKernel* kernel;
  WeightMatrix matrix;
  char* panels;

  int64_t n_panels() const { return matrix.n_out / kernel->panel_rows(); }
  char* panel(int64_t i) const { return panels + static_cast<size_t>(i) * kernel->panel_bytes(matrix); }
};

class LayerProducts {
 public:
  // What no kernel takes is left to ggml's own products. All arguments must outlive this.
  LayerProducts(Compute& compute, const Model::Impl& model,
                std::span<const std::unique_ptr<ProductKernel>> kernels)
      : compute_(compute), model_(model), kernels_(kernels) {}

  // Unpacks what the kernels take of layer il's matrices. Errors: out_of_memory, cancelled.
  Result<void> load(int64_t il);

  // w x for x, F32 [n_in, n]: F32 [n_out, n]. Serves one graph, the one at hand.
  Multiply multiply_by() {
    return [this, packed = Packed()](ggml_context* ctx, ggml_tensor* w, ggml_tensor* x) mutable {
      return multiply(packed, ctx, w, x);
    };
  }

 private:
  // A graph's inputs, for the products that share them.
  using Packed = std::map<std::pair<const ProductKernel*, const ggml_tensor*>, ggml_tensor*>;
  struct FreeAligned {
    void operator()(char* p) const { ::operator delete(p, std::align_val_t(64)); }
  };

  Result<void> reserve(size_t n_bytes);
  const char* stored(const ggml_tensor* t) const;
  const ProductKernel* kernel_for(const WeightMatrix& w) const;  // null: none takes it
  ggml_tensor* packed(Packed& all, const ProductKernel* kernel, ggml_tensor* x);
  ggml_tensor* multiply(Packed& all, ggml_context* ctx, ggml_tensor* w, ggml_tensor* x);

  Compute& compute_;
  const Model::Impl& model_;
  std::span<const std::unique_ptr<ProductKernel>> kernels_;
  std::unique_ptr<char, FreeAligned> scratch_;
  size_t scratch_bytes_ = 0;
  std::map<const ggml_tensor*, UnpackedMatrix> weights_;
};

}  // namespace curdkv
