// The work that a test cannot do without: bytes of weights and cache, and floating point operations.
#pragma once

#include "curdkv/model.h"

namespace curdkv::measure {

class Cost {
 public:
  explicit Cost(const Model& model);

  // Bytes read to decode one token with so many rows of K and V (all layers and KV heads) of row_bytes each
  // for both.
  double decode_bytes(int64_t n_rows, double row_bytes) const;
  int64_t n_heads_kv() const { return static_cast<int64_t>(n_heads_kv_); }  // of all layers
  bool is_quantised() const { return is_quantised_; }                       // weights, or some
  bool fits_bf16() const { return fits_bf16_; }  // as quantised and BF16 weights do, or some
  // Multiplications and additions to run n_new tokens behind n_rows cached ones, logits of the last alone.
  double operations(int64_t n_new, int64_t n_rows) const;

 private:
  double layer_params_ = 0, output_params_ = 0, weights_bytes_ = 0;
  double n_heads_kv_ = 0;
  bool is_quantised_ = false, fits_bf16_ = false;
  double per_row_ = 0;  // operations of one query token for a row of K and V, on average over KV heads
};

}  // namespace curdkv::measure
