// NEON for products in 8 bits: see int8_tile-inl.h. Included by int8_kernel.cpp alone.

#define CURDKV_TARGET __attribute__((target("arch=armv8.2-a+dotprod")))
#define CURDKV_INLINE CURDKV_TARGET __attribute__((always_inline)) inline

namespace neon_dotprod {

using Ints = int32x4_t;
using Weights = int8x16_t;
using Inputs = int8x16_t;  // 4 in every lane
using Floats = float32x4_t;
using Input = int8_t;
constexpr int kRows = 4, kTokens = 6, kPanels = 2;

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
CURDKV_INLINE Floats all(float x) {
  return vdupq_n_f32(x);
}
CURDKV_INLINE Floats load_floats(const char* at) {
  return vld1q_f32(reinterpret_cast<const float*>(at));
}
CURDKV_INLINE void store_floats(float* at, Floats x) {
  vst1q_f32(at, x);
}
CURDKV_INLINE Floats as_floats(Ints x) {
  return vcvtq_f32_s32(x);
}
CURDKV_INLINE Floats multiply_add(Floats a, Floats b, Floats c) {
  return vfmaq_f32(c, a, b);
}

// 32 inputs as ggml quantises them: to 127 steps of either sign.
CURDKV_TARGET void pack_block(const float* x, char* inputs, float& scale, float& sum) {
  float32x4_t most = vdupq_n_f32(0), total = vdupq_n_f32(0);
  for (int i = 0; i < 8; ++i) most = vmaxq_f32(most, vabsq_f32(vld1q_f32(x + 4 * i)));
  const float largest = vmaxvq_f32(most), inverse = largest > 0 ? 127 / largest : 0;
  scale = largest / 127;
  for (int i = 0; i < 8; i += 2) {
    const int32x4_t a = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 4 * i), inverse)),
                    b = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 4 * i + 4), inverse));
    total = vaddq_f32(total, vaddq_f32(vcvtq_f32_s32(a), vcvtq_f32_s32(b)));
    vst1_s8(reinterpret_cast<int8_t*>(inputs) + 4 * i,
            vqmovn_s16(vcombine_s16(vqmovn_s32(a), vqmovn_s32(b))));
  }
  sum = scale * vaddvq_f32(total);  // of floats, which hold such sums exactly
}

#include "compute/products/int8_tile-inl.h"

}  // namespace neon_dotprod
