#include "engine/logits.h"

#include <ggml-backend.h>

#include <bit>
#include <cstdint>

namespace curdkv {

// Without branches, so that compilers put it into vectors: what is no number has all bits of the exponent.
bool all_numbers(std::span<const float> x) {
  constexpr uint32_t kExponent = 0x7f800000;
  uint32_t any = 0;
  for (const float v : x) any |= (std::bit_cast<uint32_t>(v) & kExponent) == kExponent;
  return any == 0;
}

Error not_numbers() {
  return {ErrorCode::corrupt,
          "the model's outputs are not numbers (NaN or infinite): its file is damaged, or its weights "
          "overflow; fetch or convert it anew"};
}

namespace {

void read_row(const ggml_tensor* rows, int64_t row, std::vector<float>& out) {
  out.resize(static_cast<size_t>(rows->ne[0]));
  ggml_backend_tensor_get(rows, out.data(), static_cast<size_t>(row) * rows->nb[1],
                          out.size() * sizeof(float));
}

}  // namespace

Result<void> read_logits(const LogitsNodes& nodes, int64_t row, std::vector<float>& out) {
  read_row(nodes.normed, row, out);
  bool good = all_numbers(out);
  read_row(nodes.logits, row, out);
  good = good && all_numbers(out);
  if (good) return {};
  out.clear();
  return not_numbers();
}

}  // namespace curdkv
