// Instruction sets of x86-64 for products in 8 bits: see int8_tile-inl.h. Included by int8_kernel.cpp alone.

#define CURDKV_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))
#define CURDKV_INLINE CURDKV_TARGET __attribute__((always_inline)) inline

namespace avx512_vnni {

using Ints = __m512i;
using Weights = __m512i;
using Inputs = __m512i;  // 4 in every lane
using Floats = __m512;
using Input = uint8_t;
constexpr int kRows = 16, kTokens = 6, kPanels = 2;

constexpr size_t place(size_t row, size_t i) {
  return 4 * row + i;
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
CURDKV_INLINE Floats all(float x) {
  return _mm512_set1_ps(x);
}
CURDKV_INLINE Floats load_floats(const char* at) {
  return _mm512_load_ps(at);
}
CURDKV_INLINE void store_floats(float* at, Floats x) {
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
  sum = scale * _mm512_reduce_add_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(qa, qb)));
  const __m128i flip = _mm_set1_epi8(static_cast<char>(0x80));  // adds 128
  _mm_storeu_si128(reinterpret_cast<__m128i*>(inputs), _mm_xor_si128(_mm512_cvtepi32_epi8(qa), flip));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(inputs + 16), _mm_xor_si128(_mm512_cvtepi32_epi8(qb), flip));
}

#include "compute/products/int8_tile-inl.h"

}  // namespace avx512_vnni

#undef CURDKV_TARGET
#define CURDKV_TARGET __attribute__((target("avx2,fma")))

// What AVX2 has, with VNNI and without.
namespace avx2_floats {

using Floats = __m256;

CURDKV_INLINE Floats no_floats() {
  return _mm256_setzero_ps();
}
CURDKV_INLINE Floats all(float x) {
  return _mm256_set1_ps(x);
}
CURDKV_INLINE Floats load_floats(const char* at) {
  return _mm256_load_ps(reinterpret_cast<const float*>(at));
}
CURDKV_INLINE void store_floats(float* at, Floats x) {
  _mm256_storeu_ps(at, x);
}
CURDKV_INLINE Floats as_floats(__m256i x) {
  return _mm256_cvtepi32_ps(x);
}
CURDKV_INLINE Floats multiply_add(Floats a, Floats b, Floats c) {
  return _mm256_fmadd_ps(a, b, c);
}
CURDKV_INLINE __m256i load_ints(const char* at) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(at));
}
CURDKV_INLINE __m256i no_ints() {
  return _mm256_setzero_si256();
}

// 32 inputs as ggml quantises them, in steps of scale.
CURDKV_TARGET void quantise_block(const float* x, __m256i q[4], float& scale, float& sum) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  __m256 most = _mm256_setzero_ps();
  for (int i = 0; i < 4; ++i) most = _mm256_max_ps(most, _mm256_andnot_ps(sign, _mm256_loadu_ps(x + 8 * i)));
  alignas(32) float lanes[8];
  _mm256_store_ps(lanes, most);
  float largest = 0;
  for (const float lane : lanes) largest = std::max(largest, lane);
  scale = largest / 127;
  const __m256 inverse = _mm256_set1_ps(largest > 0 ? 127 / largest : 0);
  __m256 total = _mm256_setzero_ps();
  for (int i = 0; i < 4; ++i) {
    q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8 * i), inverse));
    total = _mm256_add_ps(total, _mm256_cvtepi32_ps(q[i]));
  }
  _mm256_store_ps(lanes, total);
  sum = 0;  // in floats, which hold such sums exactly
  for (const float lane : lanes) sum += lane;
  sum *= scale;
}

}  // namespace avx2_floats

#undef CURDKV_TARGET
#define CURDKV_TARGET __attribute__((target("avx2,fma,avxvnni")))

namespace avx_vnni {

using namespace avx2_floats;
using Ints = __m256i;
using Weights = __m256i;
using Inputs = __m256i;  // 4 in every lane
using Input = uint8_t;
constexpr int kRows = 8, kTokens = 6, kPanels = 1;

constexpr size_t place(size_t row, size_t i) {
  return 4 * row + i;
}
CURDKV_INLINE Weights load_weights(const char* at) {
  return load_ints(at);
}
CURDKV_INLINE Inputs load_inputs(const char* at) {
  return _mm256_set1_epi32(read_at<int32_t>(at));
}
CURDKV_INLINE Ints add_products(Ints sum, Weights w, Inputs x) {
  return _mm256_dpbusd_avx_epi32(sum, x, w);
}

CURDKV_TARGET void pack_block(const float* x, char* inputs, float& scale, float& sum) {
  __m256i q[4];
  quantise_block(x, q, scale, sum);
  const __m256i low = _mm256_packs_epi32(q[0], q[1]), high = _mm256_packs_epi32(q[2], q[3]);
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(inputs),
                      _mm256_xor_si256(bytes, _mm256_set1_epi8(static_cast<char>(0x80))));  // adds 128
}

#include "compute/products/int8_tile-inl.h"

}  // namespace avx_vnni

#undef CURDKV_TARGET
#define CURDKV_TARGET __attribute__((target("avx2,fma")))

// Weights and inputs are multiplied in 16 bits, as bytes of either sign cannot be.
namespace avx2 {

using namespace avx2_floats;
using Ints = __m256i;
struct Weights {
  __m256i first, second;  // pairs, a row's in every lane
};
struct Inputs {
  __m256i first, second;  // a pair in all lanes
};
using Input = int16_t;
constexpr int kRows = 8, kTokens = 5, kPanels = 1;

constexpr size_t place(size_t row, size_t i) {
  return i / 2 * 16 + 2 * row + i % 2;
}
CURDKV_INLINE Weights load_weights(const char* at) {
  const auto* halves = reinterpret_cast<const __m128i*>(at);
  return {_mm256_cvtepi8_epi16(_mm_load_si128(halves)), _mm256_cvtepi8_epi16(_mm_load_si128(halves + 1))};
}
CURDKV_INLINE Inputs load_inputs(const char* at) {
  return {_mm256_broadcastd_epi32(_mm_loadu_si32(at)), _mm256_broadcastd_epi32(_mm_loadu_si32(at + 4))};
}
CURDKV_INLINE Ints add_products(Ints sum, const Weights& w, const Inputs& x) {
  sum = _mm256_add_epi32(sum, _mm256_madd_epi16(w.first, x.first));
  sum = _mm256_add_epi32(sum, _mm256_madd_epi16(w.second, x.second));
  __asm__("" : "+x"(sum));  // else sums are reordered into more of them than there are registers
  return sum;
}

CURDKV_TARGET void pack_block(const float* x, char* inputs, float& scale, float& sum) {
  __m256i q[4];
  quantise_block(x, q, scale, sum);
  for (int i = 0; i < 2; ++i) {
    const __m256i pairs = _mm256_permute4x64_epi64(_mm256_packs_epi32(q[2 * i], q[2 * i + 1]), 0xd8);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(inputs) + i, pairs);
  }
}

#include "compute/products/int8_tile-inl.h"

}  // namespace avx2
