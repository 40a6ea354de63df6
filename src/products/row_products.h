// A token's products with quantised weights as they lie in the file: decoding reads every weight once for
// each token, so what counts is to keep up with memory.
#pragma once

#include <map>

#include "engine/compute.h"
#include "model/architecture.h"

namespace curdkv {

// w x for x, F32 [n_in, 1]: F32 [n_out, 1]. By AVX-512's VNNI, several rows at a time, where the processor
// has it and w is of a type with blocks of 32 in the CPU's own memory; else ggml_mul_mat.
class RowProducts {
 public:
  explicit RowProducts(Compute& compute) : compute_(compute) {}
  ggml_tensor* multiply(ggml_context* ctx, ggml_tensor* w, ggml_tensor* x);
  Multiply multiply_by() {
    return [this](ggml_context* ctx, ggml_tensor* w, ggml_tensor* x) { return multiply(ctx, w, x); };
  }

 private:
  Compute& compute_;
  std::map<const ggml_tensor*, ggml_tensor*> quantised_;  // inputs, for the products that share them
};

}  // namespace curdkv
