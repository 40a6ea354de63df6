// AVX2 and AVX-VNNI for products in 8 bits: see int8_tile-inl.h, int8_formats-inl.h and int8_rows-inl.h.
// Included by int8_kernel.cpp alone.

#define CURDKV_INLINE CURDKV_TARGET __attribute__((always_inline)) inline
#define CURDKV_TARGET __attribute__((target("avx2,fma,f16c")))

// What all of x86-64 have: bytes, and lanes for a row but for their dot products.
namespace avx2_bytes {

using Bytes = __m256i;

CURDKV_INLINE Bytes load_bytes(const char* at) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
}
CURDKV_INLINE void store_bytes(int8_t* at, Bytes b) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(at), b);
}
CURDKV_INLINE Bytes plus(Bytes a, Bytes b) {
  return _mm256_add_epi8(a, b);
}
CURDKV_INLINE Bytes minus(Bytes a, int n) {
  return _mm256_sub_epi8(a, _mm256_set1_epi8(static_cast<char>(n)));
}
CURDKV_INLINE Bytes flipped(Bytes b) {
  return _mm256_xor_si256(b, _mm256_set1_epi8(static_cast<char>(0x80)));
}
CURDKV_INLINE Bytes nibbles(const char* at) {
  const __m128i both = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
  const __m256i spread = _mm256_inserti128_si256(_mm256_castsi128_si256(both), _mm_srli_epi16(both, 4), 1);
  return _mm256_and_si256(spread, _mm256_set1_epi8(15));
}
CURDKV_INLINE Bytes shifted_nibbles(Bytes b, int n) {
  return _mm256_and_si256(_mm256_srl_epi16(b, _mm_cvtsi32_si128(n)), _mm256_set1_epi8(15));
}
template <int kMask>
CURDKV_INLINE Bytes shifted_bits(Bytes b, int n) {
  const __m256i bits = _mm256_and_si256(_mm256_srl_epi16(b, _mm_cvtsi32_si128(n)), _mm256_set1_epi8(kMask));
  return _mm256_slli_epi16(bits, 4);
}
CURDKV_INLINE Bytes with_bits(Bytes q, const char* bits) {
  const __m256i of_8 = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
  const __m256i own = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201));
  const __m256i spread = _mm256_shuffle_epi8(_mm256_set1_epi32(read_at<int32_t>(bits)), of_8);
  const __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(spread, own), own);
  return _mm256_add_epi8(q, _mm256_and_si256(set, _mm256_set1_epi8(16)));
}
CURDKV_INLINE Bytes looked_up(const int8_t* table, Bytes nibbles) {
  const __m128i values = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(values), nibbles);
}
CURDKV_INLINE float half_at(const char* at) {
  return _cvtsh_ss(read_at<uint16_t>(at));
}
template <typename T>
CURDKV_INLINE void scaled_bytes(uint64_t bytes, float factor, float* to) {
  const __m128i all = _mm_cvtsi64_si128(static_cast<int64_t>(bytes));
  const __m256i ints = std::is_signed_v<T> ? _mm256_cvtepi8_epi32(all) : _mm256_cvtepu8_epi32(all);
  _mm256_storeu_ps(to, _mm256_mul_ps(_mm256_cvtepi32_ps(ints), _mm256_set1_ps(factor)));
}

struct Lanes {
  using Ints = __m256i;
  using Weights = __m256i;
  using Inputs = __m256i;
  using Floats = __m256;
  static constexpr int kRows = 1;

  static CURDKV_INLINE Floats no_floats() { return _mm256_setzero_ps(); }
  static CURDKV_INLINE Floats all(float x) { return _mm256_set1_ps(x); }
  // The first of two floats in the lower half, the second in the upper one.
  static CURDKV_INLINE Floats halves(const float* two) {
    const __m256 both = _mm256_castpd_ps(_mm256_set1_pd(read_at<double>(reinterpret_cast<const char*>(two))));
    return _mm256_permutevar_ps(both, _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1));
  }
  template <int kN>
  static CURDKV_INLINE Floats load_floats(const float* x) {
    if constexpr (kN == 1) return _mm256_zextps128_ps256(_mm_load_ss(x));
    return _mm256_loadu_ps(x);
  }
  static CURDKV_INLINE Floats in_all(Floats x) { return x; }
  static CURDKV_INLINE void multiply_8(float* x, const float* by) {
    _mm256_storeu_ps(x, _mm256_mul_ps(_mm256_loadu_ps(x), _mm256_loadu_ps(by)));
  }
  static CURDKV_INLINE Weights join(const Bytes* one) { return *one; }
  static CURDKV_INLINE Floats join(const Floats* one) { return *one; }
  static CURDKV_INLINE Inputs load(const int8_t* q) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(q));
  }
  template <int kBits>
  static CURDKV_INLINE Ints shifted(const int32_t* x) {
    if constexpr (kBits == 0) return _mm256_setzero_si256();
    return _mm256_slli_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)), kBits);
  }
  static CURDKV_INLINE Floats as_floats(Ints x) { return _mm256_cvtepi32_ps(x); }
  static CURDKV_INLINE Floats multiply(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
  static CURDKV_INLINE Floats multiply_add(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
  // Adds up 8 lanes in the order that all sums of a row have.
  static CURDKV_INLINE float sum_of(Floats x, int) {
    const __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)));
  }
};

}  // namespace avx2_bytes

// Tiles' numbers, with VNNI and without.
namespace avx2_floats {

using Floats = __m256;
constexpr int kRows = 8, kPanels = 1, kTogether = 1;
constexpr size_t kDepth = 4;

constexpr size_t place(size_t row, size_t i) {
  return 4 * row + i;
}

CURDKV_INLINE Floats no_floats() {
  return _mm256_setzero_ps();
}
CURDKV_INLINE Floats of_tokens(const char* at) {
  return _mm256_set1_ps(read_at<float>(at));
}
CURDKV_INLINE Floats load_floats(const char* at) {
  return _mm256_load_ps(reinterpret_cast<const float*>(at));
}
CURDKV_INLINE void store_floats(float* at, Floats x, int) {
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
CURDKV_INLINE __m256i load_inputs(const char* at) {
  return _mm256_set1_epi32(read_at<int32_t>(at));
}

// 32 inputs as ggml quantises them, in steps of scale; sum: of the steps.
CURDKV_TARGET __m256i quantise_block(const float* x, float& scale, float& sum) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  __m256 most = _mm256_setzero_ps();
  for (int i = 0; i < 4; ++i) most = _mm256_max_ps(most, _mm256_andnot_ps(sign, _mm256_loadu_ps(x + 8 * i)));
  const __m128 half = _mm_max_ps(_mm256_castps256_ps128(most), _mm256_extractf128_ps(most, 1));
  const __m128 pair = _mm_max_ps(half, _mm_movehl_ps(half, half));
  const float largest = _mm_cvtss_f32(_mm_max_ss(pair, _mm_movehdup_ps(pair)));
  scale = largest / 127;
  const __m256 inverse = _mm256_set1_ps(largest > 0 ? 127 / largest : 0);
  __m256 total = _mm256_setzero_ps();
  __m256i q[4];
  for (int i = 0; i < 4; ++i) {
    q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8 * i), inverse));
    total = _mm256_add_ps(total, _mm256_cvtepi32_ps(q[i]));
  }
  sum = avx2_bytes::Lanes::sum_of(total, 0);  // of floats, which hold such sums exactly
  const __m256i low = _mm256_packs_epi32(q[0], q[1]), high = _mm256_packs_epi32(q[2], q[3]);
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  return _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order);
}

}  // namespace avx2_floats

#undef CURDKV_TARGET
#define CURDKV_TARGET __attribute__((target("avx2,fma,f16c,avxvnni")))

namespace avx_vnni {

using namespace avx2_bytes;
using namespace avx2_floats;
using Ints = __m256i;
using Weights = __m256i;
using Inputs = __m256i;  // 4 in every lane
using Input = uint8_t;
constexpr int kTokens = 6, kGathered = 0;

CURDKV_INLINE Weights load_weights(const char* at) {
  return load_ints(at);
}
CURDKV_INLINE Ints add_products(Ints sum, Weights w, Inputs x) {
  return _mm256_dpbusd_avx_epi32(sum, x, w);
}

CURDKV_TARGET void pack_block(const float* x, char* inputs, float& scale, float& sum) {
  const __m256i bytes = quantise_block(x, scale, sum);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(inputs),
                      _mm256_xor_si256(bytes, _mm256_set1_epi8(static_cast<char>(0x80))));  // adds 128
}

#include "compute/products/int8_formats-inl.h"

constexpr bool kFlips = true;
constexpr int kMostColumns = 4, kWideRegisters = 2;

struct Narrow : Lanes {
  template <bool kSigned>
  static CURDKV_INLINE __m256i dot(__m256i sum, __m256i w, __m256i x) {
    return _mm256_dpbusd_avx_epi32(sum, w, x);
  }
};
using Wide = Narrow;
using Quickest = Wide;

#include "compute/products/int8_limit-inl.h"
#include "compute/products/int8_rows-inl.h"
#include "compute/products/int8_tile-inl.h"

}  // namespace avx_vnni

#undef CURDKV_TARGET
#define CURDKV_TARGET __attribute__((target("avx2,fma,f16c")))

// Bytes are multiplied in pairs, whose sums are of 16 bits: products of few weights fit there four times
// over.
namespace avx2 {

using namespace avx2_bytes;
using namespace avx2_floats;
using Ints = __m256i;
using Weights = __m256i;
using Inputs = __m256i;  // 4 in every lane
using Input = int8_t;
constexpr int kTokens = 4, kGathered = 4;

CURDKV_INLINE Weights load_weights(const char* at) {
  return load_ints(at);
}
CURDKV_INLINE Ints add_gathered(Ints sum, Ints pairs) {
  sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  __asm__("" : "+x"(sum));  // else sums are reordered into more of them than there are registers
  return sum;
}
CURDKV_INLINE Ints add_products(Ints sum, Weights w, Inputs x) {
  return add_gathered(sum, _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w)));
}
CURDKV_INLINE Ints gather(Ints pairs, Weights w, Inputs x) {
  pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(w, x));
  __asm__("" : "+x"(pairs));
  return pairs;
}

CURDKV_TARGET void pack_block(const float* x, char* inputs, float& scale, float& sum) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(inputs), quantise_block(x, scale, sum));
}

#include "compute/products/int8_formats-inl.h"

constexpr bool kFlips = false;
constexpr int kMostColumns = 4, kWideRegisters = 2;

// Sums of two products fit 16 bits: unsigned weights are below 64, and inputs within 127 of either sign.
struct Narrow : Lanes {
  template <bool kSigned>
  static CURDKV_INLINE __m256i dot(__m256i sum, __m256i w, __m256i x) {
    const __m256i pairs = kSigned ? _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w))
                                  : _mm256_maddubs_epi16(w, x);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
};
using Wide = Narrow;

// As many rows' products as are gathered.
struct Quickest : Narrow {
  static constexpr int kRows = kGathered;
  template <bool kSigned>
  static CURDKV_INLINE __m256i dot(__m256i sum, __m256i w, __m256i x) {
    __m256i pairs = no_ints();
    CURDKV_UNROLL for (int i = 0; i < kGathered; ++i) {
      pairs = gather(pairs, w, x);
      __asm__("" : "+x"(w));  // or equal products are taken together
    }
    return add_gathered(sum, pairs);
  }
};

#include "compute/products/int8_limit-inl.h"
#include "compute/products/int8_rows-inl.h"
#include "compute/products/int8_tile-inl.h"

}  // namespace avx2
