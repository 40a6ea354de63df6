#include "measure/cost.h"

#include "model/model_impl.h"

namespace curdkv::measure {

Cost::Cost(const Model& model) {
  const Weights& w = model.impl().weights;
  const HParams& hp = model.impl().hp;
  for (int64_t il = 0; il < hp.n_layer; ++il) {
    for (const ggml_tensor* t : model.impl().matrices(il)) {
      layer_params_ += static_cast<double>(ggml_nelements(t));
      weights_bytes_ += static_cast<double>(ggml_nbytes(t));
      is_quantised_ = is_quantised_ || ggml_is_quantized(t->type);
      fits_bf16_ = fits_bf16_ || is_quantised_ || t->type == GGML_TYPE_BF16;
    }
    const LayerShape& l = hp.layer(il);
    n_heads_kv_ += static_cast<double>(l.n_head_kv);
    per_row_ += 2 * static_cast<double>((l.d_head_k + l.d_head_v) * l.n_head);
  }
  per_row_ /= n_heads_kv_;
  output_params_ = static_cast<double>(ggml_nelements(w.output));
  weights_bytes_ += static_cast<double>(ggml_nbytes(w.output));
}

double Cost::decode_bytes(int64_t n_rows, double row_bytes) const {
  return weights_bytes_ + static_cast<double>(n_rows) * row_bytes;
}

double Cost::operations(int64_t n_new, int64_t n_rows) const {
  const auto n = static_cast<double>(n_new);
  // Every new token sees the cached rows and, of the new ones of each KV head, those up to its own.
  const double own = n_heads_kv_ * (n + 1) / 2;
  return 2 * (layer_params_ * n + output_params_) + n * (static_cast<double>(n_rows) + own) * per_row_;
}

}  // namespace curdkv::measure
