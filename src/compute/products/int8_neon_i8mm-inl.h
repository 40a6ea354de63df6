// NEON's matrix products (i8mm) for products in 8 bits: two rows of 8 weights times two tokens' inputs, half
// as many instructions as by dot products. Of many tokens only; rows are multiplied by dot products, whose
// bits these have. Included by int8_kernel.cpp alone, after int8_neon-inl.h.

#undef CURDKV_TARGET
#define CURDKV_TARGET __attribute__((target("arch=armv8.2-a+dotprod+i8mm")))

namespace neon_i8mm {

using namespace neon_dotprod;

// A row's two tokens side by side, the first two rows in the lower half.
using Ints = Narrow::Ints;
using Floats = Narrow::Floats;
using Weights = Narrow::Weights;
using Inputs = int8x16_t;  // 8 of each token
constexpr int kRows = 4, kTokens = 6, kPanels = 2, kTogether = 2, kGathered = 0;
constexpr size_t kDepth = 8;

constexpr size_t place(size_t row, size_t i) {
  return 8 * row + i;
}
CURDKV_INLINE Ints no_ints() {
  return {vdupq_n_s32(0), vdupq_n_s32(0)};
}
CURDKV_INLINE Ints load_ints(const char*) {
  return no_ints();  // inputs of either sign need no corrections
}
CURDKV_INLINE Weights load_weights(const char* at) {
  return Narrow::load(reinterpret_cast<const int8_t*>(at));
}
CURDKV_INLINE Inputs load_inputs(const char* at) {
  return vld1q_s8(reinterpret_cast<const int8_t*>(at));
}
CURDKV_INLINE Ints add_products(Ints sum, Weights w, Inputs x) {
  return {vmmlaq_s32(sum.low, w.low, x), vmmlaq_s32(sum.high, w.high, x)};
}
CURDKV_INLINE Floats no_floats() {
  return Narrow::no_floats();
}
CURDKV_INLINE Floats of_tokens(const char* at) {
  const float32x4_t both = vreinterpretq_f32_u64(vdupq_n_u64(read_at<uint64_t>(at)));
  return {both, both};
}
CURDKV_INLINE Floats load_floats(const char* at) {
  const float32x4_t of_rows = vld1q_f32(reinterpret_cast<const float*>(at));
  return {vzip1q_f32(of_rows, of_rows), vzip2q_f32(of_rows, of_rows)};
}
CURDKV_INLINE void store_floats(float* at, Floats x, int token) {
  vst1q_f32(at, token == 0 ? vuzp1q_f32(x.low, x.high) : vuzp2q_f32(x.low, x.high));
}
CURDKV_INLINE Floats as_floats(Ints x) {
  return Narrow::as_floats(x);
}
CURDKV_INLINE Floats operator+(Floats a, Floats b) {
  return {vaddq_f32(a.low, b.low), vaddq_f32(a.high, b.high)};
}
CURDKV_INLINE Floats operator*(Floats a, Floats b) {
  return Narrow::multiply(a, b);
}
CURDKV_INLINE Floats multiply_add(Floats a, Floats b, Floats c) {
  return Narrow::multiply_add(a, b, c);
}

CURDKV_TARGET void pack_block(const float* x, char* inputs, float& scale, float& sum) {
  quantise_block<16>(x, inputs, scale, sum);
}

struct Wide : Narrow {
  static constexpr int kRows = 2;
  template <bool kSigned>
  static CURDKV_INLINE Ints dot(Ints sum, Weights w, Inputs x) {
    return {vmmlaq_s32(sum.low, w.low, x.low), vmmlaq_s32(sum.high, w.high, x.high)};
  }
};

using Quickest = Wide;

#include "compute/products/int8_limit-inl.h"
#include "compute/products/int8_tile-inl.h"

}  // namespace neon_i8mm
