// NEON's dot products for products in 8 bits: see int8_tile-inl.h, int8_formats-inl.h and int8_rows-inl.h.
// Included by int8_kernel.cpp alone.

#define CURDKV_TARGET __attribute__((target("arch=armv8.2-a+dotprod")))
#define CURDKV_INLINE CURDKV_TARGET __attribute__((always_inline)) inline

namespace neon_dotprod {

using Ints = int32x4_t;
using Weights = int8x16_t;
using Inputs = int8x16_t;  // 4 in every lane
using Floats = float32x4_t;
using Input = int8_t;
constexpr int kRows = 4, kTokens = 6, kPanels = 2, kTogether = 1, kGathered = 0;
constexpr size_t kDepth = 4;

constexpr size_t place(size_t row, size_t i) {
  return 4 * row + i;
}
CURDKV_INLINE Ints no_ints() {
  return vdupq_n_s32(0);
}
CURDKV_INLINE Ints load_ints(const char* at) {
  return vreinterpretq_s32_s8(vld1q_s8(reinterpret_cast<const int8_t*>(at)));
}
CURDKV_INLINE Weights load_weights(const char* at) {
  return vld1q_s8(reinterpret_cast<const int8_t*>(at));
}
CURDKV_INLINE Inputs load_inputs(const char* at) {
  return vreinterpretq_s8_s32(vdupq_n_s32(read_at<int32_t>(at)));
}
CURDKV_INLINE Ints add_products(Ints sum, Weights w, Inputs x) {
  return vdotq_s32(sum, w, x);
}
CURDKV_INLINE Floats no_floats() {
  return vdupq_n_f32(0);
}
CURDKV_INLINE Floats of_tokens(const char* at) {
  return vdupq_n_f32(read_at<float>(at));
}
CURDKV_INLINE Floats load_floats(const char* at) {
  return vld1q_f32(reinterpret_cast<const float*>(at));
}
CURDKV_INLINE void store_floats(float* at, Floats x, int) {
  vst1q_f32(at, x);
}
CURDKV_INLINE Floats as_floats(Ints x) {
  return vcvtq_f32_s32(x);
}
CURDKV_INLINE Floats multiply_add(Floats a, Floats b, Floats c) {
  return vfmaq_f32(c, a, b);
}

// 32 inputs as ggml quantises them: to 127 steps of either sign. Runs of 8 lie so far apart.
template <int kApart>
CURDKV_TARGET void quantise_block(const float* x, char* inputs, float& scale, float& sum) {
  float32x4_t most = vdupq_n_f32(0), total = vdupq_n_f32(0);
  for (int i = 0; i < 8; ++i) most = vmaxq_f32(most, vabsq_f32(vld1q_f32(x + 4 * i)));
  const float largest = vmaxvq_f32(most), inverse = largest > 0 ? 127 / largest : 0;
  scale = largest / 127;
  for (int i = 0; i < 4; ++i) {
    const int32x4_t a = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 8 * i), inverse)),
                    b = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 8 * i + 4), inverse));
    total = vaddq_f32(total, vaddq_f32(vcvtq_f32_s32(a), vcvtq_f32_s32(b)));
    vst1_s8(reinterpret_cast<int8_t*>(inputs) + kApart * i,
            vqmovn_s16(vcombine_s16(vqmovn_s32(a), vqmovn_s32(b))));
  }
  sum = vaddvq_f32(total);  // of floats, which hold such sums exactly
}
CURDKV_TARGET void pack_block(const float* x, char* inputs, float& scale, float& sum) {
  quantise_block<8>(x, inputs, scale, sum);
}

struct Bytes {
  uint8x16_t low, high;
};
CURDKV_INLINE Bytes load_bytes(const char* at) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(at);
  return {vld1q_u8(bytes), vld1q_u8(bytes + 16)};
}
CURDKV_INLINE void store_bytes(int8_t* at, Bytes b) {
  vst1q_s8(at, vreinterpretq_s8_u8(b.low));
  vst1q_s8(at + 16, vreinterpretq_s8_u8(b.high));
}
CURDKV_INLINE Bytes plus(Bytes a, Bytes b) {
  return {vaddq_u8(a.low, b.low), vaddq_u8(a.high, b.high)};
}
CURDKV_INLINE Bytes minus(Bytes a, int n) {
  const uint8x16_t all = vdupq_n_u8(static_cast<uint8_t>(n));
  return {vsubq_u8(a.low, all), vsubq_u8(a.high, all)};
}
CURDKV_INLINE Bytes flipped(Bytes b) {
  return {veorq_u8(b.low, vdupq_n_u8(0x80)), veorq_u8(b.high, vdupq_n_u8(0x80))};
}
CURDKV_INLINE Bytes nibbles(const char* at) {
  const uint8x16_t both = vld1q_u8(reinterpret_cast<const uint8_t*>(at));
  return {vandq_u8(both, vdupq_n_u8(15)), vshrq_n_u8(both, 4)};
}
template <int kMask>
CURDKV_INLINE Bytes masked(Bytes b, int n) {
  const int8x16_t right = vdupq_n_s8(static_cast<int8_t>(-n));
  return {vandq_u8(vshlq_u8(b.low, right), vdupq_n_u8(kMask)),
          vandq_u8(vshlq_u8(b.high, right), vdupq_n_u8(kMask))};
}
CURDKV_INLINE Bytes shifted_nibbles(Bytes b, int n) {
  return masked<15>(b, n);
}
template <int kMask>
CURDKV_INLINE Bytes shifted_bits(Bytes b, int n) {
  const Bytes bits = masked<kMask>(b, n);
  return {vshlq_n_u8(bits.low, 4), vshlq_n_u8(bits.high, 4)};
}
CURDKV_INLINE Bytes with_bits(Bytes q, const char* bits) {
  const auto* at = reinterpret_cast<const uint8_t*>(bits);
  const uint8x16_t own = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201)), worth = vdupq_n_u8(16);
  const uint8x16_t low = vcombine_u8(vdup_n_u8(at[0]), vdup_n_u8(at[1])),
                   high = vcombine_u8(vdup_n_u8(at[2]), vdup_n_u8(at[3]));
  return {vaddq_u8(q.low, vandq_u8(vtstq_u8(low, own), worth)),
          vaddq_u8(q.high, vandq_u8(vtstq_u8(high, own), worth))};
}
CURDKV_INLINE Bytes looked_up(const int8_t* table, Bytes nibbles) {
  const uint8x16_t values = vreinterpretq_u8_s8(vld1q_s8(table));
  return {vqtbl1q_u8(values, nibbles.low), vqtbl1q_u8(values, nibbles.high)};
}
CURDKV_INLINE float half_at(const char* at) {
  return read_at<__fp16>(at);
}
template <typename T>
CURDKV_INLINE void scaled_bytes(uint64_t bytes, float factor, float* to) {
  for (int i = 0; i < 8; ++i) to[i] = static_cast<float>(static_cast<T>(bytes >> 8 * i)) * factor;
}

#include "compute/products/int8_formats-inl.h"

constexpr bool kFlips = false;
constexpr int kMostColumns = 4, kWideRegisters = 2;

struct Narrow {
  struct Ints {
    int32x4_t low, high;
  };
  struct Weights {
    int8x16_t low, high;
  };
  using Inputs = Weights;
  struct Floats {
    float32x4_t low, high;
  };
  static constexpr int kRows = 1;

  static CURDKV_INLINE Floats no_floats() { return all(0); }
  static CURDKV_INLINE Floats all(float x) { return {vdupq_n_f32(x), vdupq_n_f32(x)}; }
  static CURDKV_INLINE Floats halves(const float* two) { return {vdupq_n_f32(two[0]), vdupq_n_f32(two[1])}; }
  template <int kN>
  static CURDKV_INLINE Floats load_floats(const float* x) {
    if constexpr (kN == 1) return {vsetq_lane_f32(*x, vdupq_n_f32(0), 0), vdupq_n_f32(0)};
    return {vld1q_f32(x), vld1q_f32(x + 4)};
  }
  static CURDKV_INLINE Floats in_all(Floats x) { return x; }
  static CURDKV_INLINE void multiply_8(float* x, const float* by) {
    vst1q_f32(x, vmulq_f32(vld1q_f32(x), vld1q_f32(by)));
    vst1q_f32(x + 4, vmulq_f32(vld1q_f32(x + 4), vld1q_f32(by + 4)));
  }
  static CURDKV_INLINE Weights join(const Bytes* one) {
    return {vreinterpretq_s8_u8(one->low), vreinterpretq_s8_u8(one->high)};
  }
  static CURDKV_INLINE Floats join(const Floats* one) { return *one; }
  static CURDKV_INLINE Inputs load(const int8_t* q) { return {vld1q_s8(q), vld1q_s8(q + 16)}; }
  template <int kBits>
  static CURDKV_INLINE Ints shifted(const int32_t* x) {
    if constexpr (kBits == 0) return {vdupq_n_s32(0), vdupq_n_s32(0)};
    const int32x4_t left = vdupq_n_s32(kBits);
    return {vshlq_s32(vld1q_s32(x), left), vshlq_s32(vld1q_s32(x + 4), left)};
  }
  template <bool kSigned>
  static CURDKV_INLINE Ints dot(Ints sum, Weights w, Inputs x) {
    return {vdotq_s32(sum.low, w.low, x.low), vdotq_s32(sum.high, w.high, x.high)};
  }
  static CURDKV_INLINE Floats as_floats(Ints x) { return {vcvtq_f32_s32(x.low), vcvtq_f32_s32(x.high)}; }
  static CURDKV_INLINE Floats multiply(Floats a, Floats b) {
    return {vmulq_f32(a.low, b.low), vmulq_f32(a.high, b.high)};
  }
  static CURDKV_INLINE Floats multiply_add(Floats a, Floats b, Floats c) {
    return {vfmaq_f32(c.low, a.low, b.low), vfmaq_f32(c.high, a.high, b.high)};
  }
  static CURDKV_INLINE float sum_of(Floats x, int) {
    const float32x4_t half = vaddq_f32(x.low, x.high);
    return (half[0] + half[2]) + (half[1] + half[3]);
  }
};
using Wide = Narrow;
using Quickest = Wide;

#include "compute/products/int8_limit-inl.h"
#include "compute/products/int8_rows-inl.h"
#include "compute/products/int8_tile-inl.h"

}  // namespace neon_dotprod
