// How rows of a cache type are read, a vector at a time, as F32. Included once for each instruction set.
#if defined(CURDKV_ATTENTION_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CURDKV_ATTENTION_ROWS_INL_H_
#undef CURDKV_ATTENTION_ROWS_INL_H_
#else
#define CURDKV_ATTENTION_ROWS_INL_H_
#endif

#include <ggml.h>
#include <hwy/highway.h>

#include <cstdint>
#include <cstring>

HWY_BEFORE_NAMESPACE();
namespace curdkv {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;
using Ints = hn::RebindToSigned<Floats>;
using Vec = hn::Vec<Floats>;
constexpr int64_t kLanes = hn::MaxLanes(Floats());

struct F32Rows {
  static HWY_INLINE Vec load(const char* row, int64_t d) {
    return hn::LoadU(Floats(), reinterpret_cast<const float*>(row) + d);
  }
};

struct F16Rows {
  static HWY_INLINE Vec load(const char* row, int64_t d) {
    const hn::Rebind<hwy::float16_t, Floats> dh;
    return hn::PromoteTo(Floats(), hn::LoadU(dh, reinterpret_cast<const hwy::float16_t*>(row) + d));
  }
};

// ggml's Q8_0: blocks of 32 int8 with one F16 scale before them.
struct Q8Rows {
  static HWY_INLINE Vec load(const char* row, int64_t d) {
    const Floats df;
    const hn::Rebind<int8_t, Floats> d8;
    const hn::Rebind<int32_t, Floats> d32;
    const hn::Rebind<uint16_t, Floats> d16;
    const hn::Rebind<hwy::float16_t, Floats> dh;
    const char* block = row + d / 32 * 34;
    uint16_t half;
    std::memcpy(&half, block, sizeof half);
    const auto scale = hn::PromoteTo(df, hn::BitCast(dh, hn::Set(d16, half)));
    const auto q = hn::LoadU(d8, reinterpret_cast<const int8_t*>(block + 2 + d % 32));
    return hn::Mul(scale, hn::ConvertTo(df, hn::PromoteTo(d32, q)));
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace curdkv
HWY_AFTER_NAMESPACE();

#endif
