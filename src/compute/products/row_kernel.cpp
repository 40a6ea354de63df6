#include "compute/products/row_kernel.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace curdkv {

size_t row_input_bytes(int64_t n_in) {
  return static_cast<size_t>(n_in / kRowBlock) * sizeof(RowInput);
}

void quantise_input(const float* x, int64_t n_in, char* to) {
  for (int64_t b = 0; b < n_in / kRowBlock; ++b, x += kRowBlock, to += sizeof(RowInput)) {
    RowInput in = {};
    float most = 0;
    for (int64_t i = 0; i < kRowBlock; ++i) most = std::max(most, std::fabs(x[i]));
    const float inverse = most > 0 ? 127 / most : 0;
    int sum = 0;
    for (int64_t i = 0; i < kRowBlock; ++i) {
      const auto q = static_cast<int8_t>(std::lrintf(x[i] * inverse));
      in.q[i] = q;
      in.minus_sums[i / 4] -= q;
      sum += q;
    }
    in.scale = most / 127;
    in.sum = in.scale * static_cast<float>(sum);
    std::memcpy(to, &in, sizeof in);
  }
}

}  // namespace curdkv
