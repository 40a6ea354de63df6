// Products of bytes for kernels over packed rows: sums of each lane's four bytes times the same four signed
// ones. They are exact, whatever the instruction set. Included once for each of them.
#if defined(CURDKV_ATTENTION_BYTE_PRODUCTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CURDKV_ATTENTION_BYTE_PRODUCTS_INL_H_
#undef CURDKV_ATTENTION_BYTE_PRODUCTS_INL_H_
#else
#define CURDKV_ATTENTION_BYTE_PRODUCTS_INL_H_
#endif

#include <hwy/highway.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "attention/rows-inl.h"
#include "base/cpu.h"

HWY_BEFORE_NAMESPACE();
namespace curdkv {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// What kernels are instantiated with:
//   kAtOnce  queries at once: two sums each, and the codes
//   kSigned  whether the lanes' bytes are signed, too: those above 127 come less 128
//   Sum      of a vector's lanes; from(): what it begins with; total(): what it came to
//   add      the sum with the products of `bytes` and fours[kAt, kAt + 4), which lie in a run of kRun bytes
//            that may be read, 4, 8 or 16, from the last multiple of 16 on

#if HWY_TARGET == HWY_SCALAR

struct ByteProducts {  // there are none
  static constexpr int kAtOnce = 4;
};

#else

using IntVec = hn::Vec<Ints>;
using Bytes = hn::Repartition<uint8_t, Floats>;
using ByteVec = hn::Vec<Bytes>;

#if HWY_ARCH_ARM_A64

struct SignedBytes {
  static constexpr bool kSigned = true;
  // 128 times the sums of n runs of 16 bytes, from one to the next `step`: of each four.
  static HWY_INLINE IntVec sums_times_128(const int8_t* from, int64_t n, int64_t step) {
    int32x4_t sum = vdupq_n_s32(0);
    for (int64_t i = 0; i < n; ++i) sum = vpadalq_s16(sum, vpaddlq_s8(vld1q_s8(from + i * step)));
    return IntVec(vshlq_n_s32(sum, 7));
  }
};

struct NeonDotProducts : SignedBytes {
  static constexpr int kAtOnce = 8;
  using Sum = IntVec;
  static HWY_INLINE Sum from(int32_t x) { return hn::Set(Ints(), x); }
  static HWY_INLINE IntVec total(Sum sum) { return sum; }
  template <int kAt, int kRun>
  static HWY_INLINE Sum add(Sum sum, ByteVec bytes, const int8_t* fours) {
    using Run = std::conditional_t<kRun != 16, std::conditional_t<kRun == 8, double, float>, int8x16_t>;
    static_assert(sizeof(Run) == kRun && kAt % 16 < kRun);
    Run run;
    std::memcpy(&run, fours + kAt / 16 * 16, sizeof run);
    // Written out, as the compiler is told of what all processors have, and the assembler by it.
#ifdef __ARM_FEATURE_DOTPROD
#define CURDKV_DOTPROD
#else
#define CURDKV_DOTPROD ".arch armv8.2-a+crypto+dotprod\n\t"
#endif
    asm(CURDKV_DOTPROD "sdot %0.4s, %1.16b, %2.4b[%3]"
        : "+w"(sum.raw)
        : "w"(bytes.raw), "w"(run), "i"(kAt % 16 / 4));
#undef CURDKV_DOTPROD
    return sum;
  }
};

// For processors without dot products: 16-bit products, of which pairs are added up, in two vectors.
struct NeonProducts : SignedBytes {
  static constexpr int kAtOnce = 4;
  struct Sum {
    int32x4_t low, high;
  };
  static HWY_INLINE Sum from(int32_t x) {
    const int32x4_t first_of_two = vreinterpretq_s32_u64(vdupq_n_u64(static_cast<uint32_t>(x)));
    return {first_of_two, first_of_two};
  }
  static HWY_INLINE IntVec total(Sum sum) { return IntVec(vpaddq_s32(sum.low, sum.high)); }
  template <int kAt, int>
  static HWY_INLINE Sum add(Sum sum, ByteVec bytes, const int8_t* fours) {
    int32_t word;
    std::memcpy(&word, fours + kAt, sizeof word);
    const int8x16_t four = vreinterpretq_s8_s32(vdupq_n_s32(word)), of = vreinterpretq_s8_u8(bytes.raw);
    return {vpadalq_s16(sum.low, vmull_s8(vget_low_s8(of), vget_low_s8(four))),
            vpadalq_s16(sum.high, vmull_high_s8(of, four))};
  }
};

#else

struct ByteProducts {
  static constexpr int kAtOnce = HWY_TARGET == HWY_AVX3_DL ? 8 : 4;
  static constexpr bool kSigned = false;
  using Sum = IntVec;
  static HWY_INLINE Sum from(int32_t x) { return hn::Set(Ints(), x); }
  static HWY_INLINE IntVec total(Sum sum) { return sum; }
  template <int kAt, int>
  static HWY_INLINE Sum add(Sum sum, ByteVec bytes, const int8_t* fours) {
    const int8_t* four = fours + kAt;
    const Ints di;
#if HWY_TARGET <= HWY_AVX3_DL && HWY_ARCH_X86
    using Four = const int32_t __attribute__((may_alias));
    // Written out, as Highway's list of features for this target lacks the one of this instruction.
    asm("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum.raw) : "v"(bytes.raw), "m"(*reinterpret_cast<Four*>(four)));
    return sum;
#elif HWY_ARCH_X86 && HWY_TARGET != HWY_EMU128
    // Pairs of 16-bit products: the even bytes', then the odd ones'.
    const hn::Repartition<int16_t, Ints> d16;
    const hn::Repartition<uint16_t, Ints> du16;
    const auto pair = [&](int a, int b) {
      return hn::BitCast(d16,
                         hn::Set(di, static_cast<int32_t>((a & 0xffff) | (static_cast<uint32_t>(b) << 16))));
    };
    const auto words = hn::BitCast(du16, bytes);
    const auto even = hn::BitCast(d16, hn::And(words, hn::Set(du16, 0xff)));
    const auto odd = hn::BitCast(d16, hn::ShiftRight<8>(words));
    auto unused = hn::Zero(di);
    sum = hn::ReorderWidenMulAccumulate(di, even, pair(four[0], four[2]), sum, unused);
    return hn::ReorderWidenMulAccumulate(di, odd, pair(four[1], four[3]), sum, unused);
#else
    const auto words = hn::BitCast(di, bytes);
    const auto byte = hn::Set(di, 0xff);
    sum = hn::Add(sum, hn::Mul(hn::And(words, byte), hn::Set(di, four[0])));
    sum = hn::Add(sum, hn::Mul(hn::And(hn::ShiftRight<8>(words), byte), hn::Set(di, four[1])));
    sum = hn::Add(sum, hn::Mul(hn::And(hn::ShiftRight<16>(words), byte), hn::Set(di, four[2])));
    return hn::Add(sum, hn::Mul(hn::And(hn::ShiftRight<24>(words), byte), hn::Set(di, four[3])));
#endif
  }
};

#endif
#endif

// Calls f with the products that this processor has.
template <typename F>
HWY_INLINE auto with_products(const F& f) {
#if HWY_TARGET != HWY_SCALAR && HWY_ARCH_ARM_A64
  if (cpu_has_neon_dotprod()) return f(NeonDotProducts());
  return f(NeonProducts());
#else
  return f(ByteProducts());
#endif
}

}  // namespace HWY_NAMESPACE
}  // namespace curdkv
HWY_AFTER_NAMESPACE();

#endif
