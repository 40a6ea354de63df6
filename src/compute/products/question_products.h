// Products of a question's tokens with weights as they lie in the file: a step passes each layer once, so
// that its matrices are unpacked on the way, some panels at a time, which stay in the processor's own cache
// until all tokens have been multiplied by them.
#pragma once

#include <map>

#include "compute/compute.h"
#include "compute/products/kernel.h"

namespace curdkv {

// w x for x, F32 [n_in, n]: F32 [n_out, n]. A column has the same bits whatever is beside it. By the kernel
// where w is of a type that it has exactly and lies in the CPU's own memory; else ggml_mul_mat. Serves one
// graph.
class QuestionProducts {
 public:
  // kernel may be null; both must outlive the graph.
  QuestionProducts(Compute& compute, const ProductKernel* kernel) : compute_(compute), kernel_(kernel) {}
  ggml_tensor* multiply(ggml_context* ctx, ggml_tensor* w, ggml_tensor* x);

 private:
  Compute& compute_;
  const ProductKernel* kernel_;
  std::map<const ggml_tensor*, ggml_tensor*> packed_;  // inputs, for the products that share them
};

}  // namespace curdkv
