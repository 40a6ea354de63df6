// Strips of queries, which a prefill's attention works on; a Highway header, included once for each
// instruction set. A strip is as many queries as two vectors hold, with scores S[key][query] and outputs
// O[dimension][query]: keys and values are then broadcast element by element, as they lie in memory, and
// softmax goes down the keys without ever adding up lanes.
#if defined(CURDKV_PREFILL_STRIPS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef CURDKV_PREFILL_STRIPS_INL_H
#undef CURDKV_PREFILL_STRIPS_INL_H
#else
#define CURDKV_PREFILL_STRIPS_INL_H
#endif

#include <ggml.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace curdkv {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;
using Ints = hn::ScalableTag<int32_t>;
using Vec = hn::Vec<Floats>;
using IntVec = hn::Vec<Ints>;
constexpr int64_t kLanes = hn::MaxLanes(Floats());
constexpr int64_t kVectors = 2;
constexpr int64_t kStrip = kVectors * kLanes;
constexpr int64_t kKeys = 128;  // in a block, whose scores and rows stay in the cache
// Accumulators are kRows x kVectors registers of 16, or of 32 with AVX-512 and NEON.
constexpr int64_t kRows = HWY_ARCH_ARM || kLanes == 16 ? 8 : 4;
static_assert(kKeys % kRows == 0);
constexpr int64_t kUnit = kStrip > kRows ? kStrip : kRows;  // a multiple of both

HWY_INLINE int64_t whole_units(int64_t n) {
  return (n + kUnit - 1) / kUnit * kUnit;
}

HWY_INLINE Vec multiply_add(Vec a, Vec b, Vec sum) {
  return hn::MulAdd(a, b, sum);
}

// Pairs of int16. Where one instruction multiplies them and adds both products up, they take half the time
// that as many floats do; with another one for the sum two thirds.
#if HWY_TARGET == HWY_AVX3_DL
constexpr bool kHasPairs = true;
HWY_INLINE IntVec multiply_add(IntVec a, IntVec b, IntVec sum) {
  // Highway 1.0.3 does not name this set's VNNI to the compiler, which then has no intrinsic for it.
  asm("vpdpwssd %2, %1, %0" : "+v"(sum.raw) : "v"(b.raw), "v"(a.raw));
  return sum;
}
#elif HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
constexpr bool kHasPairs = true;
HWY_INLINE IntVec multiply_add(IntVec a, IntVec b, IntVec sum) {
  const hn::Repartition<int16_t, Ints> d16;
  auto unused = hn::Zero(Ints());
  return hn::ReorderWidenMulAccumulate(Ints(), hn::BitCast(d16, a), hn::BitCast(d16, b), sum, unused);
}
#else
constexpr bool kHasPairs = false;
HWY_INLINE IntVec multiply_add(IntVec, IntVec, IntVec sum) {
  return sum;  // compiled, never run
}
#endif

// sum[i][strip] = sum over k of a[i * a_row + k * a_step] * b[k * b_step + strip] for kRows rows i, handed
// vector by vector to finish(i, j, sum).
template <typename T, typename Finish>
HWY_INLINE void multiply_rows(const T* a, size_t a_row, size_t a_step, const T* b, int64_t n,
                              const Finish& finish, size_t b_step = kStrip) {
  const hn::ScalableTag<T> tag;
  using V = hn::Vec<decltype(tag)>;
  V sum[kRows][kVectors];
  HWY_UNROLL(8)
  for (int64_t i = 0; i < kRows; ++i) {
    for (int64_t j = 0; j < kVectors; ++j) sum[i][j] = hn::Zero(tag);
  }
  for (int64_t k = 0; k < n; ++k, a += a_step, b += b_step) {
    V column[kVectors];
    for (int64_t j = 0; j < kVectors; ++j) column[j] = hn::Load(tag, b + j * kLanes);
    HWY_UNROLL(8)
    for (int64_t i = 0; i < kRows; ++i) {
      const auto element = hn::Set(tag, a[static_cast<size_t>(i) * a_row]);
      for (int64_t j = 0; j < kVectors; ++j) sum[i][j] = multiply_add(element, column[j], sum[i][j]);
    }
  }
  HWY_UNROLL(8)
  for (int64_t i = 0; i < kRows; ++i) {
    for (int64_t j = 0; j < kVectors; ++j) finish(i, j, sum[i][j]);
  }
}

// Rows [0, n) as F32, and zeros up to the next multiple of kRows.
HWY_INLINE void widen(const char* rows, size_t stride, ggml_type type, int64_t n, int64_t d, float* to) {
  const Floats df;
  const hn::Rebind<hwy::float16_t, Floats> dh;
  for (int64_t r = 0; r < n; ++r, rows += stride, to += d) {
    if (type == GGML_TYPE_F32) {
      std::copy_n(reinterpret_cast<const float*>(rows), d, to);
    } else if (d % kLanes == 0) {
      const auto* from = reinterpret_cast<const hwy::float16_t*>(rows);
      for (int64_t i = 0; i < d; i += kLanes)
        hn::StoreU(hn::PromoteTo(df, hn::LoadU(dh, from + i)), df, to + i);
    } else {
      ggml_fp16_to_fp32_row(reinterpret_cast<const ggml_fp16_t*>(rows), to, d);
    }
  }
  std::fill(to, to + (n + kRows - 1) / kRows * kRows * d - n * d, 0.0f);
}

// Rows [0, n) of `width` elements into column `first` and on of strips [width][kStrip].
template <typename T>
HWY_INLINE void turn(const T* rows, int64_t n, int64_t width, int64_t first, T* strips) {
  for (int64_t r = 0; r < n; ++r, rows += width) {
    T* to = strips + (first + r) / kStrip * width * kStrip + (first + r) % kStrip;
    for (int64_t i = 0; i < width; ++i) to[i * kStrip] = rows[i];
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace curdkv
HWY_AFTER_NAMESPACE();

#endif
