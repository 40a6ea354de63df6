// Products of decoded tokens with quantised weights as they lie in the file: decoding reads every weight once
// for each step, so what counts is to keep up with memory.
#pragma once

#include <map>

#include "compute/compute.h"
#include "model/layer_blocks.h"

namespace curdkv {

// w x for x, F32 [n_in, n]: F32 [n_out, n]. In 8 bits, several rows at a time, where row_kernel_takes() w, in
// the CPU's own memory; else ggml_mul_mat.
class RowProducts {
 public:
  // n_columns: of those that count, read when the graph runs; the results of others are arbitrary.
  RowProducts(Compute& compute, const int64_t* n_columns) : compute_(compute), n_columns_(n_columns) {}
  ggml_tensor* multiply(ggml_context* ctx, ggml_tensor* w, ggml_tensor* x);
  static bool takes(const ggml_tensor* w);  // or leaves it to ggml
  Multiply multiply_by() {
    return [this](ggml_context* ctx, ggml_tensor* w, ggml_tensor* x) { return multiply(ctx, w, x); };
  }

 private:
  Compute& compute_;
  const int64_t* n_columns_;
  std::map<const ggml_tensor*, ggml_tensor*> quantised_;  // inputs, for the products that share them
};

}  // namespace curdkv
