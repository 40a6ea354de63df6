// Whether rows say numbers: whatever else is in them, finite scales and elements keep results finite.
#include <algorithm>
#include <cstring>

#include "store/context_file.h"

namespace curdkv {
namespace {

// Whether all of n numbers, `stride` bytes apart, are finite: those whose exponent is not all ones.
template <typename Bits>
bool all_finite(const char* at, size_t n, size_t stride, Bits exponent) {
  Bits none = 1;
  for (size_t i = 0; i < n; ++i) {
    Bits x;
    std::memcpy(&x, at + i * stride, sizeof x);
    none = static_cast<Bits>(none & ((x & exponent) != exponent));
  }
  return none != 0;
}

constexpr uint16_t kHalf = 0x7C00, kBrain = 0x7F80;
constexpr uint32_t kSingle = 0x7F800000;

bool halves_finite(const char* at, size_t n) {
  return all_finite<uint16_t>(at, n, 2, kHalf);
}

// Quantised blocks begin with their scale and, of types with an offset, that.
bool are_finite(ggml_type type, std::string_view rows) {
  switch (type) {
    case GGML_TYPE_F32:
      return all_finite<uint32_t>(rows.data(), rows.size() / 4, 4, kSingle);
    case GGML_TYPE_BF16:
      return all_finite<uint16_t>(rows.data(), rows.size() / 2, 2, kBrain);
    case GGML_TYPE_F16:
      return halves_finite(rows.data(), rows.size() / 2);
    default: {
      const size_t block = ggml_type_size(type), n = rows.size() / block;
      const bool offset = type == GGML_TYPE_Q4_1 || type == GGML_TYPE_Q5_1;
      return all_finite<uint16_t>(rows.data(), n, block, kHalf) &&
             (!offset || all_finite<uint16_t>(rows.data() + 2, n, block, kHalf));
    }
  }
}

bool is_finite(const PackedRows& rows, int64_t n_halves) {
  return halves_finite(reinterpret_cast<const char*>(rows.mean), static_cast<size_t>(padded_row(rows.d))) &&
         halves_finite(rows.data, static_cast<size_t>(n_halves));
}

}  // namespace

Result<void> check_rows(const ContextFile& file, size_t block, size_t il) {
  const LayerRows& l = file.blocks[block][il];
  const CacheShape& shape = file.shapes[il];
  const auto no_numbers = [&](const GgufTensor* t) {
    return file.corrupt("tensor '" + t->name + "' holds what is no number");
  };
  if (l.k != nullptr && !are_finite(shape.type_k, file.bytes(*l.k))) return no_numbers(l.k);
  if (l.v != nullptr && !are_finite(shape.type_v, file.bytes(*l.v))) return no_numbers(l.v);
  if (l.all == nullptr) return {};
  auto packed = KvLayer::over_packed(shape, static_cast<int64_t>(il), l.packed, file.bytes(*l.all).data());
  if (!packed) return packed.error();
  for (size_t h = 0; h < l.packed.size(); ++h) {
    const PackedHead& head = packed->packed[h];
    if (!is_finite(head.k, packed_key_halves(head.k)) || !is_finite(head.v, packed_value_halves(head.v)))
      return no_numbers(l.all);
  }
  return {};
}

}  // namespace curdkv
