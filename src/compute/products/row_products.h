// Products of decoded tokens with quantised weights as they lie in the file: decoding reads every weight once
// for each step, so what counts is to keep up with memory. Between two products threads wait for each other,
// so what lies between them is done by who needs it.
#pragma once

#include <map>
#include <utility>

#include "compute/compute.h"
#include "model/products.h"

namespace curdkv {

// In 8 bits, several rows at a time, where takes() says so of all matrices of a pass; else standard
// operations. Serves one graph.
class RowProducts final : public Products {
 public:
  // n_columns: of those that count, read when the graph runs; the results of others are arbitrary.
  RowProducts(Compute& compute, const int64_t* n_columns) : compute_(compute), n_columns_(n_columns) {}

  // Of types that row_kernel_takes(), in the CPU's own memory.
  static bool takes(const ggml_tensor* w);

  ggml_tensor* multiply(ggml_context* ctx, ggml_tensor* w, ggml_tensor* x) override;
  Projected project(ggml_context* ctx, const Norm& norm, std::span<const Linear> matrices,
                    ggml_tensor* x) override;
  ggml_tensor* add_product(ggml_context* ctx, const Linear& matrix, ggml_tensor* x, ggml_tensor* to) override;
  ggml_tensor* feed_forward(ggml_context* ctx, const FeedForward& w, ggml_tensor* x) override;

 private:
  ggml_tensor* inputs_of(ggml_tensor* x, const Norm& norm);
  ggml_tensor* multiply_all(std::span<const Linear> matrices, ggml_tensor* in, int64_t n, const Norm& norm,
                            ggml_tensor* to);

  Compute& compute_;
  const int64_t* n_columns_;
  // Inputs and norms' weights, for the products that share them.
  std::map<std::pair<const ggml_tensor*, const ggml_tensor*>, ggml_tensor*> quantised_;
};

}  // namespace curdkv
