// A block of 32 weights is unpacked to unsigned bytes, 8 dot products of 4 with the signed inputs are
// gathered in integers, and added up in F32 with the block's scale. Four rows at a time hide each other's
// latencies; up to eight columns of inputs share the unpacking.
//
// Inputs: for each block of 32, its values (int8), the negated sum of every 4 of them (int32), its scale and
// its sum (F32).
#include "compute/products/row_kernel.h"

#include "base/cpu.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#define CURDKV_VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni,f16c,fma,avx2")))
#define CURDKV_UNROLL _Pragma("GCC unroll 16")

namespace curdkv {
namespace {

constexpr int64_t kBlock = 32;
constexpr int kRows = 4;
constexpr size_t kAhead = 4096;  // bytes that memory is asked for early

struct Input {
  int8_t q[kBlock];
  int32_t minus_sums[8];
  float scale;
  float sum;
  float unused[2];
};

inline uint16_t half_at(const char* at) {
  uint16_t bits;
  std::memcpy(&bits, at, sizeof bits);
  return bits;
}

CURDKV_VNNI inline __m256i nibbles(const char* at) {
  const __m128i both = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
  const __m256i spread = _mm256_inserti128_si256(_mm256_castsi128_si256(both), _mm_srli_epi16(both, 4), 1);
  return _mm256_and_si256(spread, _mm256_set1_epi8(15));
}

CURDKV_VNNI inline __m256i with_fifth_bits(__m256i q, const char* bits) {
  uint32_t mask;
  std::memcpy(&mask, bits, sizeof mask);
  return _mm256_mask_add_epi8(q, mask, q, _mm256_set1_epi8(16));
}

// Types: a block's bytes; what its bytes are too large by, as a power of two (0: nothing); where its weights
// are.
struct Q8_0 {
  static constexpr size_t kBytes = 34;
  static constexpr int kExcess = 7;
  static constexpr bool kHasMinimum = false;
  CURDKV_VNNI static inline __m256i bytes(const char* block) {
    return _mm256_xor_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(block + 2)),
                            _mm256_set1_epi8(static_cast<char>(0x80)));
  }
};

struct Q4_0 {
  static constexpr size_t kBytes = 18;
  static constexpr int kExcess = 3;
  static constexpr bool kHasMinimum = false;
  CURDKV_VNNI static inline __m256i bytes(const char* block) { return nibbles(block + 2); }
};

struct Q4_1 {
  static constexpr size_t kBytes = 20;
  static constexpr int kExcess = 0;
  static constexpr bool kHasMinimum = true;
  CURDKV_VNNI static inline __m256i bytes(const char* block) { return nibbles(block + 4); }
};

struct Q5_0 {
  static constexpr size_t kBytes = 22;
  static constexpr int kExcess = 4;
  static constexpr bool kHasMinimum = false;
  CURDKV_VNNI static inline __m256i bytes(const char* block) {
    return with_fifth_bits(nibbles(block + 6), block + 2);
  }
};

struct Q5_1 {
  static constexpr size_t kBytes = 24;
  static constexpr int kExcess = 0;
  static constexpr bool kHasMinimum = true;
  CURDKV_VNNI static inline __m256i bytes(const char* block) {
    return with_fifth_bits(nibbles(block + 8), block + 4);
  }
};

// Adds up 8 lanes in the order that all sums of a row have.
CURDKV_VNNI inline float sum_of(__m256 x) {
  const __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)));
}

// kRows rows from row r on; beyond the last the last again.
inline std::array<const char*, kRows> rows_from(const char* rows, int64_t r, int64_t n_rows, size_t stride) {
  std::array<const char*, kRows> row;
  for (size_t i = 0; i < kRows; ++i)
    row[i] = rows + static_cast<size_t>(std::min(r + static_cast<int64_t>(i), n_rows - 1)) * stride;
  return row;
}

// Asks memory for what comes kAhead behind block b of kRows rows, which lie one behind the other.
template <typename Type>
CURDKV_VNNI inline void prefetch(const char* rows, int64_t b) {
  const char* soon = rows + kAhead + static_cast<size_t>(b) * Type::kBytes * kRows;
  for (size_t i = 0; i < kRows * Type::kBytes; i += 64) _mm_prefetch(soon + i, _MM_HINT_T0);
}

// One column of inputs.
template <typename Type>
CURDKV_VNNI void multiply_column(const char* rows, int64_t n_rows, int64_t n_in, const char* inputs,
                                 float* out, int64_t) {
  const int64_t n_blocks = n_in / kBlock;
  const size_t stride = static_cast<size_t>(n_blocks) * Type::kBytes;
  const auto* in = reinterpret_cast<const Input*>(inputs);
  for (int64_t r = 0; r < n_rows; r += kRows) {
    const std::array<const char*, kRows> row = rows_from(rows, r, n_rows, stride);
    __m256 sum[kRows];
    CURDKV_UNROLL for (int i = 0; i < kRows; ++i) sum[i] = _mm256_setzero_ps();
    for (int64_t b = 0; b < n_blocks; ++b) {
      prefetch<Type>(row[0], b);
      const Input& x = in[b];
      const __m256i q = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x.q));
      __m256i excess = _mm256_setzero_si256();
      if constexpr (Type::kExcess > 0) {
        excess = _mm256_slli_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x.minus_sums)),
                                   Type::kExcess);
      }
      CURDKV_UNROLL for (int i = 0; i < kRows; ++i) {
        const char* block = row[i] + static_cast<size_t>(b) * Type::kBytes;
        const __m256 scale = _mm256_cvtph_ps(_mm_set1_epi16(static_cast<short>(half_at(block))));
        const __m256i dot = _mm256_dpbusd_epi32(excess, Type::bytes(block), q);
        sum[i] =
            _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), _mm256_mul_ps(scale, _mm256_set1_ps(x.scale)), sum[i]);
        if constexpr (Type::kHasMinimum) {
          const __m128 minimum = _mm_cvtph_ps(_mm_cvtsi32_si128(half_at(block + 2)));
          sum[i] = _mm256_add_ps(sum[i], _mm256_zextps128_ps256(_mm_mul_ss(minimum, _mm_set_ss(x.sum))));
        }
      }
    }
    for (int64_t i = 0; i < std::min<int64_t>(kRows, n_rows - r); ++i) out[r + i] = sum_of(sum[i]);
  }
}

CURDKV_VNNI inline __m512i pair_of(__m256i low, __m256i high) {
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}
CURDKV_VNNI inline __m512i in_both_halves(const void* half) {
  return _mm512_broadcast_i64x4(_mm256_loadu_si256(static_cast<const __m256i*>(half)));
}
// Two numbers, one in all lanes of each half.
CURDKV_VNNI inline __m512 halves(float low, float high) {
  return _mm512_mask_blend_ps(0xff00, _mm512_set1_ps(low), _mm512_set1_ps(high));
}
CURDKV_VNNI inline float as_float(uint16_t half) {
  return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(half)));
}

// Several columns of inputs, which lie one behind the other; those of outputs out_stride floats apart. Two
// rows share a register, each half of which takes the steps of multiply_column().
template <typename Type, int kColumns>
CURDKV_VNNI void multiply_columns(const char* rows, int64_t n_rows, int64_t n_in, const char* inputs,
                                  float* out, int64_t out_stride) {
  constexpr int kPairs = kRows / 2;
  const int64_t n_blocks = n_in / kBlock;
  const size_t stride = static_cast<size_t>(n_blocks) * Type::kBytes;
  const auto* in = reinterpret_cast<const Input*>(inputs);
  for (int64_t r = 0; r < n_rows; r += kRows) {
    const std::array<const char*, kRows> row = rows_from(rows, r, n_rows, stride);
    __m512 sum[kColumns][kPairs];
    CURDKV_UNROLL for (int c = 0; c < kColumns; ++c) {
      CURDKV_UNROLL for (int i = 0; i < kPairs; ++i) sum[c][i] = _mm512_setzero_ps();
    }
    for (int64_t b = 0; b < n_blocks; ++b) {
      prefetch<Type>(row[0], b);
      __m512i bytes[kPairs];
      __m512 scale[kPairs], minimum[kPairs];
      CURDKV_UNROLL for (int i = 0; i < kPairs; ++i) {
        const size_t at = static_cast<size_t>(b) * Type::kBytes;
        const char *low = row[2 * i] + at, *high = row[2 * i + 1] + at;
        bytes[i] = pair_of(Type::bytes(low), Type::bytes(high));
        scale[i] = halves(as_float(half_at(low)), as_float(half_at(high)));
        if constexpr (Type::kHasMinimum)
          minimum[i] = halves(as_float(half_at(low + 2)), as_float(half_at(high + 2)));
      }
      CURDKV_UNROLL for (int c = 0; c < kColumns; ++c) {
        const Input& x = in[c * n_blocks + b];
        const __m512i q = in_both_halves(x.q);
        __m512i excess = _mm512_setzero_si512();
        if constexpr (Type::kExcess > 0)
          excess = _mm512_slli_epi32(in_both_halves(x.minus_sums), Type::kExcess);
        const __m512 input_scale = _mm512_set1_ps(x.scale);
        CURDKV_UNROLL for (int i = 0; i < kPairs; ++i) {
          const __m512i dot = _mm512_dpbusd_epi32(excess, bytes[i], q);
          sum[c][i] =
              _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), _mm512_mul_ps(scale[i], input_scale), sum[c][i]);
          if constexpr (Type::kHasMinimum) {  // in the first lane of each half
            const __m512 least = _mm512_maskz_mul_ps(0x0101, minimum[i], _mm512_set1_ps(x.sum));
            sum[c][i] = _mm512_add_ps(sum[c][i], least);
          }
        }
      }
    }
    for (int c = 0; c < kColumns; ++c) {
      for (int64_t i = 0; i < std::min<int64_t>(kRows, n_rows - r); ++i) {
        const __m512 pair = sum[c][i / 2];
        const __m512 mine = i % 2 == 0 ? pair : _mm512_shuffle_f32x4(pair, pair, 0xee);
        out[c * out_stride + r + i] = sum_of(_mm512_castps512_ps256(mine));
      }
    }
  }
}

constexpr int kMostColumns = 8;
using Multiply = void (*)(const char* rows, int64_t n_rows, int64_t n_in, const char* inputs, float* out,
                          int64_t out_stride);

// n: 1 to kMostColumns.
template <typename Type>
Multiply for_columns(int64_t n) {
  constexpr Multiply kBy[kMostColumns] = {multiply_column<Type>,     multiply_columns<Type, 2>,
                                          multiply_columns<Type, 3>, multiply_columns<Type, 4>,
                                          multiply_columns<Type, 5>, multiply_columns<Type, 6>,
                                          multiply_columns<Type, 7>, multiply_columns<Type, 8>};
  return kBy[n - 1];
}

Multiply multiply_of(ggml_type type, int64_t n_columns) {
  switch (type) {
    case GGML_TYPE_Q4_0:
      return for_columns<Q4_0>(n_columns);
    case GGML_TYPE_Q4_1:
      return for_columns<Q4_1>(n_columns);
    case GGML_TYPE_Q5_0:
      return for_columns<Q5_0>(n_columns);
    case GGML_TYPE_Q5_1:
      return for_columns<Q5_1>(n_columns);
    case GGML_TYPE_Q8_0:
      return for_columns<Q8_0>(n_columns);
    default:
      return nullptr;
  }
}

}  // namespace

bool row_kernel_takes(ggml_type type, int64_t n_in) {
  return cpu_has_avx512_vnni() && multiply_of(type, 1) != nullptr && n_in % kBlock == 0;
}

size_t row_input_bytes(int64_t n_in) {
  return static_cast<size_t>(n_in / kBlock) * sizeof(Input);
}

void quantise_input(const float* x, int64_t n_in, char* to) {
  for (int64_t b = 0; b < n_in / kBlock; ++b, x += kBlock, to += sizeof(Input)) {
    Input in = {};
    float most = 0;
    for (int64_t i = 0; i < kBlock; ++i) most = std::max(most, std::fabs(x[i]));
    const float inverse = most > 0 ? 127 / most : 0;
    int sum = 0;
    for (int64_t i = 0; i < kBlock; ++i) {
      const auto q = static_cast<int8_t>(std::lrintf(x[i] * inverse));
      in.q[i] = q;
      in.minus_sums[i / 4] -= q;
      sum += q;
    }
    in.scale = most / 127;
    in.sum = in.scale * static_cast<float>(sum);
    std::memcpy(to, &in, sizeof in);
  }
}

void multiply_rows(ggml_type type, const char* rows, int64_t n_rows, int64_t n_in, const char* inputs,
                   int64_t n_columns, float* out, int64_t out_stride) {
  for (int64_t c = 0; c < n_columns; c += kMostColumns) {
    multiply_of(type, std::min<int64_t>(kMostColumns, n_columns - c))(
        rows, n_rows, n_in, inputs + static_cast<size_t>(c) * row_input_bytes(n_in), out + c * out_stride,
        out_stride);
  }
}

}  // namespace curdkv

#else

namespace curdkv {

bool row_kernel_takes(ggml_type, int64_t) {
  return false;
}
size_t row_input_bytes(int64_t) {
  return 0;
}
void quantise_input(const float*, int64_t, char*) {}
void multiply_rows(ggml_type, const char*, int64_t, int64_t, const char*, int64_t, float*, int64_t) {}

}  // namespace curdkv

#endif
