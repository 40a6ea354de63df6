// AVX-512's VNNI for products in 8 bits: see int8_tile-inl.h, int8_formats-inl.h and int8_rows-inl.h.
// Included by int8_kernel.cpp alone, after int8_avx2-inl.h.

#undef CURDKV_TARGET
#define CURDKV_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")))

namespace avx512_vnni {

using namespace avx2_bytes;

using Ints = __m512i;
using Weights = __m512i;
using Inputs = __m512i;  // 4 in every lane
using Floats = __m512;
using Input = uint8_t;
constexpr int kRows = 16, kTokens = 6, kPanels = 2, kTogether = 1, kGathered = 0;
constexpr size_t kDepth = 4;

constexpr size_t place(size_t row, size_t i) {
  return 4 * row + i;
}
CURDKV_INLINE Bytes with_bits(Bytes q, const char* bits) {
  return _mm256_mask_add_epi8(q, read_at<uint32_t>(bits), q, _mm256_set1_epi8(16));
}
CURDKV_INLINE Ints no_ints() {
  return _mm512_setzero_si512();
}
CURDKV_INLINE Ints load_ints(const char* at) {
  return _mm512_load_si512(at);
}
CURDKV_INLINE Weights load_weights(const char* at) {
  return _mm512_load_si512(at);
}
CURDKV_INLINE Inputs load_inputs(const char* at) {
  return _mm512_set1_epi32(read_at<int32_t>(at));
}
CURDKV_INLINE Ints add_products(Ints sum, Weights w, Inputs x) {
  return _mm512_dpbusd_epi32(sum, x, w);
}
CURDKV_INLINE Floats no_floats() {
  return _mm512_setzero_ps();
}
CURDKV_INLINE Floats of_tokens(const char* at) {
  return _mm512_set1_ps(read_at<float>(at));
}
CURDKV_INLINE Floats load_floats(const char* at) {
  return _mm512_load_ps(at);
}
CURDKV_INLINE void store_floats(float* at, Floats x, int) {
  _mm512_storeu_ps(at, x);
}
CURDKV_INLINE Floats as_floats(Ints x) {
  return _mm512_cvtepi32_ps(x);
}
CURDKV_INLINE Floats multiply_add(Floats a, Floats b, Floats c) {
  return _mm512_fmadd_ps(a, b, c);
}

// 32 inputs as ggml quantises them: to 127 steps of either sign.
CURDKV_TARGET void pack_block(const float* x, char* inputs, float& scale, float& sum) {
  const __m512 a = _mm512_loadu_ps(x), b = _mm512_loadu_ps(x + 16);
  const float most = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(a), _mm512_abs_ps(b)));
  scale = most / 127;
  const float inverse = most > 0 ? 127 / most : 0;
  const __m512i qa = _mm512_cvtps_epi32(a * inverse), qb = _mm512_cvtps_epi32(b * inverse);
  // In floats, which hold such sums exactly: what inputs that are no numbers become may overflow integers.
  sum = _mm512_reduce_add_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(qa, qb)));
  const __m128i flip = _mm_set1_epi8(static_cast<char>(0x80));  // adds 128
  _mm_storeu_si128(reinterpret_cast<__m128i*>(inputs), _mm_xor_si128(_mm512_cvtepi32_epi8(qa), flip));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(inputs + 16), _mm_xor_si128(_mm512_cvtepi32_epi8(qb), flip));
}

#include "compute/products/int8_formats-inl.h"

constexpr bool kFlips = true;
constexpr int kMostColumns = 8, kWideRegisters = 2;

struct Narrow : Lanes {
  template <bool kSigned>
  static CURDKV_INLINE __m256i dot(__m256i sum, __m256i w, __m256i x) {
    return _mm256_dpbusd_epi32(sum, w, x);
  }
};

// Two rows, one in each half.
struct Wide {
  using Ints = __m512i;
  using Weights = __m512i;
  using Inputs = __m512i;
  using Floats = __m512;
  static constexpr int kRows = 2;

  static CURDKV_INLINE __m512i both(__m256i low, __m256i high) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
  }
  static CURDKV_INLINE __m512i in_both(const void* half) {
    return _mm512_broadcast_i64x4(_mm256_loadu_si256(static_cast<const __m256i*>(half)));
  }
  static CURDKV_INLINE Floats no_floats() { return _mm512_setzero_ps(); }
  static CURDKV_INLINE Floats all(float x) { return _mm512_set1_ps(x); }
  static CURDKV_INLINE Weights join(const Bytes* two) { return both(two[0], two[1]); }
  static CURDKV_INLINE Floats join(const __m256* two) {
    return _mm512_castsi512_ps(both(_mm256_castps_si256(two[0]), _mm256_castps_si256(two[1])));
  }
  static CURDKV_INLINE Floats in_all(__m256 x) {
    const __m256 two[] = {x, x};
    return join(two);
  }
  static CURDKV_INLINE Inputs load(const int8_t* q) { return in_both(q); }
  template <int kBits>
  static CURDKV_INLINE Ints shifted(const int32_t* x) {
    if constexpr (kBits == 0) return _mm512_setzero_si512();
    return _mm512_slli_epi32(in_both(x), kBits);
  }
  template <bool kSigned>
  static CURDKV_INLINE Ints dot(Ints sum, Weights w, Inputs x) {
    return _mm512_dpbusd_epi32(sum, w, x);
  }
  static CURDKV_INLINE Floats as_floats(Ints x) { return _mm512_cvtepi32_ps(x); }
  static CURDKV_INLINE Floats multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static CURDKV_INLINE Floats multiply_add(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
  static CURDKV_INLINE float sum_of(Floats x, int row) {
    const Floats mine = row == 0 ? x : _mm512_shuffle_f32x4(x, x, 0xee);
    return Lanes::sum_of(_mm512_castps512_ps256(mine), 0);
  }
};

using Quickest = Wide;

#include "compute/products/int8_limit-inl.h"
#include "compute/products/int8_rows-inl.h"
#include "compute/products/int8_tile-inl.h"

}  // namespace avx512_vnni
