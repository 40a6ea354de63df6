// Floats become whole numbers in bytes: queries and weights for kernels over packed rows. Included once for
// each instruction set.
#if defined(CURDKV_ATTENTION_WHOLE_NUMBERS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CURDKV_ATTENTION_WHOLE_NUMBERS_INL_H_
#undef CURDKV_ATTENTION_WHOLE_NUMBERS_INL_H_
#else
#define CURDKV_ATTENTION_WHOLE_NUMBERS_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>

#include "attention/attention_kernel.h"
#include "attention/exp2-inl.h"
#include "attention/rows-inl.h"
#include "cache/packed_rows.h"

HWY_BEFORE_NAMESPACE();
namespace curdkv {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

HWY_INLINE Vec load_halves(const char* from) {
  const hn::Rebind<hwy::float16_t, Floats> dh;
  return hn::PromoteTo(Floats(), hn::LoadU(dh, reinterpret_cast<const hwy::float16_t*>(from)));
}

// Of 256 high + low with bytes of -128 to 127, and of a high byte alone.
constexpr float kMostInTwoBytes = 32512, kMostInOne = 127;

using Words = hn::RebindToUnsigned<Floats>;
HWY_INLINE auto lowest_bytes(hn::Vec<Words> words) {
#if HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86
  return hn::Vec<hn::Rebind<uint8_t, Floats>>{_mm512_cvtepi32_epi8(words.raw)};  // Highway 1.0.3's is wrong
#else
  return hn::TruncateTo(hn::Rebind<uint8_t, Floats>(), words);
#endif
}

// Whole numbers nearest to x * inverse, in two bytes each, or in the high ones alone; their sum. kRounds
// leaves them in the low bits, whose lowest byte, signed, is what the other one leaves.
template <bool kCoarse>
HWY_INLINE float split_into_bytes(const float* from, int64_t n, float inverse, int8_t* high, int8_t* low) {
  const Floats df;
  const Words du;
  const hn::Rebind<uint8_t, Floats> d8;
  const auto store = [&](auto bits, int8_t* to) {
    hn::StoreU(lowest_bytes(bits), d8, reinterpret_cast<uint8_t*>(to));
  };
  auto sum = hn::Zero(du);
  for (int64_t i = 0; i < n; i += kLanes) {
    const auto x = hn::MulAdd(hn::LoadU(df, from + i), hn::Set(df, inverse), hn::Set(df, kRounds));
    const auto bits = hn::BitCast(du, x);
    store(kCoarse ? bits : hn::ShiftRight<8>(hn::Add(bits, hn::Set(du, 128))), high + i);
    if (!kCoarse) store(bits, low + i);
    sum = hn::Add(sum, hn::Sub(bits, hn::Set(du, kBitsOfRounds)));
  }
  return static_cast<float>(hn::GetLane(hn::SumOfLanes(Ints(), hn::BitCast(Ints(), sum))));
}

// How many weights of m rows are packed: zeros behind the last.
HWY_INLINE int64_t whole_weights(int64_t m) {
  return (m + 15) / 16 * 16;
}

// Weights of a block as whole numbers in two bytes, with the rows' scales in them.
struct PackedWeights {
  int8_t *high, *low;  // [kMostQueries][kValueBlock], low ones behind the high ones
  float *scale, *sum;  // [queries]
};

// The scales of n rows, F16 [n], and of m up to whole vectors zeros: F32.
HWY_INLINE void widen_scales(const char* scales, int64_t n, int64_t m, float* to) {
  const Floats df;
  for (int64_t r = 0; r < m; r += kLanes) {
    const auto x = load_halves(scales + 2 * r);
    // What lies beyond is anything.
    const auto there = hn::FirstN(df, static_cast<size_t>(std::clamp<int64_t>(n - r, 0, kLanes)));
    hn::StoreU(hn::IfThenElseZero(there, x), df, to + r);
  }
}

// p: F32 [kBlockRows, n_q], not negative; become multiplied by the scales, F32 [m].
HWY_INLINE void pack_weights(float* p, int64_t n_q, const float* scales, int64_t m, const PackedWeights& w) {
  const Floats df;
  for (int64_t i = 0; i < n_q; ++i, p += kBlockRows) {
    auto most = hn::Zero(df);
    for (int64_t r = 0; r < m; r += kLanes) {
      const auto x = hn::Mul(hn::LoadU(df, p + r), hn::Load(df, scales + r));
      hn::StoreU(x, df, p + r);
      most = hn::Max(most, x);
    }
    const float highest = hn::GetLane(hn::MaxOfLanes(df, most));
    w.scale[i] = highest / kMostInTwoBytes;
    w.sum[i] = split_into_bytes<false>(p, m, highest > 0 ? kMostInTwoBytes / highest : 0.0f,
                                       w.high + i * kValueBlock, w.low + i * kValueBlock);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace curdkv
HWY_AFTER_NAMESPACE();

#endif
