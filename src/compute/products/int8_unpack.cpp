#include "compute/products/int8_unpack.h"

#include <algorithm>
#include <cmath>

namespace curdkv {
namespace {

void quantise(const float* x, Int8Block& b) {
  float most = 0;
  for (int64_t i = 0; i < kInt8Block; ++i) most = std::max(most, std::fabs(x[i]));
  b.scale = most / 127;
  b.min = 0;
  const float inverse = most > 0 ? 127 / most : 0;
  for (size_t i = 0; i < kInt8Block; ++i) b.q[i] = static_cast<int8_t>(std::lrintf(x[i] * inverse));
}

}  // namespace

bool has_minima(ggml_type type) {
  return type == GGML_TYPE_Q4_1 || type == GGML_TYPE_Q5_1 || type == GGML_TYPE_Q4_K || type == GGML_TYPE_Q5_K;
}

bool unpacks_exactly(ggml_type type) {
  switch (type) {
    case GGML_TYPE_Q4_0:
    case GGML_TYPE_Q4_1:
    case GGML_TYPE_Q5_0:
    case GGML_TYPE_Q5_1:
    case GGML_TYPE_Q8_0:
    case GGML_TYPE_IQ4_NL:
    case GGML_TYPE_MXFP4:
    case GGML_TYPE_Q4_K:
    case GGML_TYPE_Q5_K:
    case GGML_TYPE_IQ4_XS:
      return true;
    default:
      return false;
  }
}

bool fits_5_bits(ggml_type type) {
  return has_minima(type) || type == GGML_TYPE_Q4_0 || type == GGML_TYPE_Q5_0 || type == GGML_TYPE_MXFP4;
}

void quantise_row_anew(const WeightMatrix& w, int64_t row, std::span<Int8Block> to, float* floats) {
  ggml_get_type_traits(w.type)->to_float(w.row(row), floats, w.n_in);
  for (size_t b = 0; b < to.size(); ++b) quantise(floats + b * kInt8Block, to[b]);
}

}  // namespace curdkv
