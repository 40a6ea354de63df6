#include "measure/cost.h"

#include "model/model_impl.h"

namespace curdkv::measure {

Cost::Cost(const Model& model) : info_(model.info()) {
  const Weights& w = model.impl().weights;
  for (const LayerWeights& layer : w.layers) {
    for (const ggml_tensor* t : matrices_of(layer)) {
      layer_params_ += static_cast<double>(ggml_nelements(t));
      weights_bytes_ += static_cast<double>(ggml_nbytes(t));
    }
  }
  output_params_ = static_cast<double>(ggml_nelements(w.output));
  weights_bytes_ += static_cast<double>(ggml_nbytes(w.output));
}

double Cost::decode_bytes(int64_t n_rows, double row_bytes) const {
  return weights_bytes_ + static_cast<double>(n_rows) * row_bytes;
}

double Cost::operations(int64_t n_new, int64_t n_rows) const {
  const auto n = static_cast<double>(n_new);
  // Every new token sees the cached rows and, of the new ones of each KV head, those up to its own.
  const double own = static_cast<double>(info_.n_layer * info_.n_head_kv) * (n + 1) / 2;
  const double per_row =
      2 * static_cast<double>((info_.d_head_k + info_.d_head_v) * (info_.n_head / info_.n_head_kv));
  return 2 * (layer_params_ * n + output_params_) + n * (static_cast<double>(n_rows) + own) * per_row;
}

}  // namespace curdkv::measure
