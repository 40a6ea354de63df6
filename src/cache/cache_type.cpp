#include "cache/cache_type.h"

namespace curdkv {

std::span<const CacheTypeName> cache_types() {
  static constexpr CacheTypeName kNames[] = {
      {"f32", CacheType::f32},       {"f16", CacheType::f16},   {"bf16", CacheType::bf16},
      {"q8_0", CacheType::q8_0},     {"q4_0", CacheType::q4_0}, {"q4_1", CacheType::q4_1},
      {"iq4_nl", CacheType::iq4_nl}, {"q5_0", CacheType::q5_0}, {"q5_1", CacheType::q5_1}};
  return kNames;
}

const char* name_of(CacheType type) {
  for (const CacheTypeName& t : cache_types()) {
    if (t.type == type) return t.name;
  }
  return "";
}

ggml_type to_ggml(CacheType type) {
  switch (type) {
    case CacheType::f32:
      return GGML_TYPE_F32;
    case CacheType::f16:
      return GGML_TYPE_F16;
    case CacheType::bf16:
      return GGML_TYPE_BF16;
    case CacheType::q8_0:
      return GGML_TYPE_Q8_0;
    case CacheType::q4_0:
      return GGML_TYPE_Q4_0;
    case CacheType::q4_1:
      return GGML_TYPE_Q4_1;
    case CacheType::iq4_nl:
      return GGML_TYPE_IQ4_NL;
    case CacheType::q5_0:
      return GGML_TYPE_Q5_0;
    case CacheType::q5_1:
      return GGML_TYPE_Q5_1;
  }
  return GGML_TYPE_F16;
}

}  // namespace curdkv
