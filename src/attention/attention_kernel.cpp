#include "attention/attention_kernel.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

// Arrays of vectors below need vectors of a fixed size.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/attention_kernel.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "attention/exp2-inl.h"
#include "attention/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace curdkv {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr int64_t kLanes = hn::MaxLanes(Floats());
constexpr int kMostQueries = 8;  // that share the loads of a row
// Registers: 32 with AVX-512 and NEON, else 16. A product of rows and queries needs an accumulator for each
// pair, and a register for each row, the queries coming from memory; a mix of rows needs one more for
// weights.
constexpr int kRegisters = HWY_ARCH_ARM || kLanes == 16 ? 32 : 16;
constexpr int dot_rows_at_once(int n_queries) {
  return 4 * n_queries + 4 <= kRegisters ? 4 : 2 * n_queries + 2 <= kRegisters ? 2 : 1;
}
constexpr int mix_vectors_at_once(int n_queries) {
  return 4 * n_queries + 5 <= kRegisters ? 4 : 2 * n_queries + 3 <= kRegisters ? 2 : 1;
}

// to[0, 4) = the sums over the lanes of four vectors.
HWY_INLINE void store_sums_of_lanes(const Vec* v, float* to) {
  const Floats df;
#if HWY_TARGET == HWY_SCALAR
  for (int i = 0; i < 4; ++i) to[i] = hn::GetLane(hn::SumOfLanes(df, v[i]));
#else
  const hn::RepartitionToWide<Floats> d64;
  const auto fold = [&](Vec x, Vec y) {  // each block of 128 bits: x0 + x2, y0 + y2, x1 + x3, y1 + y3
    return hn::BitCast(d64, hn::Add(hn::InterleaveLower(df, x, y), hn::InterleaveUpper(df, x, y)));
  };
  const auto a = fold(v[0], v[1]), b = fold(v[2], v[3]);
  const auto blocks = hn::Add(hn::BitCast(df, hn::InterleaveLower(d64, a, b)),
                              hn::BitCast(df, hn::InterleaveUpper(d64, a, b)));
  const auto store_sum_of_blocks = [&](const auto& self, auto tag, auto x) -> void {
    if constexpr (hn::MaxLanes(decltype(tag)()) == 4) {
      hn::StoreU(x, tag, to);
    } else {
      const hn::Half<decltype(tag)> half;
      self(self, half, hn::Add(hn::UpperHalf(half, x), hn::LowerHalf(half, x)));
    }
  };
  store_sum_of_blocks(store_sum_of_blocks, df, blocks);
#endif
}

// Bytes [0, n) on their way into the cache.
HWY_INLINE void prefetch(const char* from, size_t n) {
  for (size_t i = 0; i < n; i += 64) hwy::Prefetch(from + i);
}

// Keys that are asked for before their turn: so many bytes for each row that is multiplied, and for each row
// that is mixed, so that memory is as busy in one as in the other.
struct KeysAhead {
  const char *while_multiplying, *while_mixing;
  size_t multiplying_bytes, mixing_bytes;

  KeysAhead(const char* k, size_t stride, size_t v_stride) {
    // Of the first-level cache a block may take so much, which leaves room for the next.
    constexpr size_t kFirstLevel = 32 << 10;
    if ((stride + v_stride) * kBlockRows <= kFirstLevel) {  // the next block's, a half each
      while_multiplying = k + kBlockRows * static_cast<int64_t>(stride);
      while_mixing = while_multiplying + kBlockRows * static_cast<int64_t>(stride) / 2;
      multiplying_bytes = mixing_bytes = stride / 2;
    } else {  // those soon to come
      while_multiplying = k + 32 * stride;
      while_mixing = k;
      multiplying_bytes = stride;
      mixing_bytes = 0;
    }
  }
};

// scores[q][r] = q . k[r] for kQ queries and all rows. q: F32 [n_dims, kQ]. v: the rows that will be mixed.
template <typename Rows, int kQ>
HWY_INLINE void dot_rows(const float* q, const char* k, size_t stride, int64_t n_rows, int64_t n_dims,
                         float* scores, const char* v, size_t v_stride, const KeysAhead& ahead) {
  const Floats df;
  constexpr int kRows = dot_rows_at_once(kQ), kSums = kQ * kRows;
  for (int64_t r = 0; r < n_rows; r += kRows) {
    const char* row[kRows];  // beyond the last: the last again, for scores that nobody sees
    for (int j = 0; j < kRows; ++j) row[j] = k + static_cast<size_t>(std::min(r + j, n_rows - 1)) * stride;
    prefetch(ahead.while_multiplying + static_cast<size_t>(r) * ahead.multiplying_bytes,
             kRows * ahead.multiplying_bytes);
    prefetch(v + static_cast<size_t>(r) * v_stride, kRows * v_stride);
    Vec sum[(kSums + 3) / 4 * 4];
    for (auto& s : sum) s = hn::Zero(df);
    for (int64_t d = 0; d < n_dims; d += kLanes) {
      Vec value[kRows];
      for (int j = 0; j < kRows; ++j) value[j] = Rows::load(row[j], d);
      for (int i = 0; i < kQ; ++i) {
        const auto query = hn::LoadU(df, q + i * n_dims + d);
        for (int j = 0; j < kRows; ++j) sum[i * kRows + j] = hn::MulAdd(value[j], query, sum[i * kRows + j]);
      }
    }
    float sums[(kSums + 3) / 4 * 4];
    for (int i = 0; i < kSums; i += 4) store_sums_of_lanes(sum + i, sums + i);
    for (int i = 0; i < kQ; ++i) {
      for (int j = 0; j < kRows; ++j) scores[i * kBlockRows + r + j] = sums[i * kRows + j];
    }
  }
}

// out[q][...] = sum over r of p[q][r] * v[r][...] for kQ queries and kVectors vectors from d on. ahead:
// ahead_bytes of it are asked for with each row.
template <typename Rows, int kQ, int kVectors>
HWY_INLINE void mix_columns(const float* p, const char* v, size_t stride, int64_t n_rows, int64_t d,
                            float* out, size_t out_stride, const char* ahead, size_t ahead_bytes) {
  const Floats df;
  Vec sum[kQ * kVectors];
  for (auto& s : sum) s = hn::Zero(df);
  for (int64_t r = 0; r < n_rows; ++r, v += stride, ahead += ahead_bytes) {
    hwy::Prefetch(ahead);
    Vec value[kVectors];
    for (int c = 0; c < kVectors; ++c) value[c] = Rows::load(v, d + c * kLanes);
    for (int i = 0; i < kQ; ++i) {
      const auto weight = hn::Set(df, p[i * kBlockRows + r]);
      for (int c = 0; c < kVectors; ++c)
        sum[i * kVectors + c] = hn::MulAdd(weight, value[c], sum[i * kVectors + c]);
    }
  }
  for (int i = 0; i < kQ; ++i) {
    for (int c = 0; c < kVectors; ++c) {
      hn::StoreU(sum[i * kVectors + c], df, out + static_cast<size_t>(i) * out_stride + d + c * kLanes);
    }
  }
}

template <typename Rows, int kQ>
HWY_INLINE void mix_rows(const float* p, const char* v, size_t stride, int64_t n_rows, int64_t n_dims,
                         float* out, size_t out_stride, const KeysAhead& ahead) {
  constexpr int kVectors = mix_vectors_at_once(kQ);
  const size_t bytes =
      ahead.mixing_bytes / static_cast<size_t>((n_dims + kVectors * kLanes - 1) / (kVectors * kLanes));
  const char* from = ahead.while_mixing;
  int64_t d = 0;
  for (; d + kVectors * kLanes <= n_dims; d += kVectors * kLanes) {
    mix_columns<Rows, kQ, kVectors>(p, v, stride, n_rows, d, out, out_stride, from, bytes);
    from += kBlockRows * static_cast<int64_t>(bytes);
  }
  for (; d < n_dims; d += kLanes)
    mix_columns<Rows, kQ, 1>(p, v, stride, n_rows, d, out, out_stride, from, bytes);
}

// Fills scores beyond the visible with -inf; returns the max.
HWY_INLINE float max_of_visible(float* scores, int64_t n_visible) {
  const Floats df;
  const float lowest = -std::numeric_limits<float>::infinity();
  std::fill(scores + n_visible, scores + kBlockRows, lowest);
  auto max = hn::Set(df, lowest);
  for (int64_t i = 0; i < kBlockRows; i += kLanes) max = hn::Max(max, hn::LoadU(df, scores + i));
  return hn::GetLane(hn::MaxOfLanes(df, max));
}

// scores[0, kBlockRows) become exp(score - max), 0 beyond the visible; returns their sum.
HWY_INLINE float exp_of_visible(float* scores, int64_t n_visible, float max) {
  const Floats df;
  if (n_visible == 0) {
    std::fill(scores, scores + kBlockRows, 0.0f);
    return 0;
  }
  auto sum = hn::Zero(df);
  for (int64_t i = 0; i < kBlockRows; i += kLanes) {
    const auto x = hn::Mul(hn::Sub(hn::LoadU(df, scores + i), hn::Set(df, max)), hn::Set(df, 1.44269504f));
    const auto y = power_of_two_or_zero(x);
    hn::StoreU(y, df, scores + i);
    sum = hn::Add(sum, y);
  }
  return hn::GetLane(hn::SumOfLanes(df, sum));
}

// Calls f with the reader of rows of this type.
template <typename F>
HWY_INLINE void with_rows(ggml_type type, const F& f) {
  if (type == GGML_TYPE_F16) {
    f(F16Rows());
  } else if (type == GGML_TYPE_Q8_0) {
    f(Q8Rows());
  } else {
    f(F32Rows());
  }
}

// Calls f with n as a std::integral_constant<int, n>, 1 <= n <= kMost.
template <int kMost, typename F>
HWY_INLINE void with_count(int64_t n, const F& f) {
  if constexpr (kMost > 1) {
    if (n < kMost) return with_count<kMost - 1>(n, f);
  }
  f(std::integral_constant<int, kMost>());
}

// attend_block() for rows that fill whole vectors.
void attend_whole_vectors(const AttentionBlock& b, float* out, size_t out_stride, float* scores) {
  const KeysAhead ahead(b.k, b.k_stride, b.v_stride);
  for (int64_t first = 0; first < b.n_q; first += kMostQueries) {
    const int64_t n = std::min<int64_t>(kMostQueries, b.n_q - first);
    float* to = out + static_cast<size_t>(first) * out_stride;
    with_rows(b.type_k, [&](auto rows) {
      with_count<kMostQueries>(n, [&](auto count) {
        dot_rows<decltype(rows), count>(b.q + first * b.d_k, b.k, b.k_stride, b.n_rows, b.d_k, scores, b.v,
                                        b.v_stride, ahead);
      });
    });
    // All maxima first: each ends in a chain of steps that wait for each other, which the others' work fills.
    for (int64_t i = 0; i < n; ++i) {
      to[static_cast<size_t>(i) * out_stride] =
          max_of_visible(scores + i * kBlockRows, b.n_visible[first + i]);
    }
    for (int64_t i = 0; i < n; ++i) {
      float* o = to + static_cast<size_t>(i) * out_stride;
      o[1] = exp_of_visible(scores + i * kBlockRows, b.n_visible[first + i], o[0]);
    }
    with_rows(b.type_v, [&](auto rows) {
      with_count<kMostQueries>(n, [&](auto count) {
        mix_rows<decltype(rows), count>(scores, b.v, b.v_stride, b.n_rows, b.d_v, to + 2, out_stride, ahead);
      });
    });
  }
}

int64_t padded(int64_t d) {
  return (d + kLanes - 1) / kLanes * kLanes;
}

// Rows as F32, `width` floats apart, the last of them zero.
void pad_rows(const char* in, size_t stride, ggml_type type, int64_t n_rows, int64_t d, float* out,
              int64_t width) {
  for (int64_t r = 0; r < n_rows; ++r, in += stride, out += width) {
    if (type == GGML_TYPE_F32) {
      std::memcpy(out, in, static_cast<size_t>(d) * sizeof(float));
    } else {
      ggml_get_type_traits(type)->to_float(in, out, d);
    }
    std::fill(out + d, out + width, 0.0f);
  }
}

size_t ScratchFloats(int64_t n_q, int64_t d_k, int64_t d_v) {
  const int64_t scores = kMostQueries * kBlockRows, wk = padded(d_k), wv = padded(d_v);
  return static_cast<size_t>(scores + kBlockRows * (wk + wv) + n_q * (wk + wv + 2));
}

// Types that are read as they lie; rows of others are widened first.
bool has_reader(ggml_type type) {
  return type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_Q8_0;
}

void AttendBlock(const AttentionBlock& b, float* out, size_t out_stride, float* scratch) {
  const int64_t wk = padded(b.d_k), wv = padded(b.d_v);
  const bool as_they_lie = wk == b.d_k && wv == b.d_v && has_reader(b.type_k) && has_reader(b.type_v);
  if (as_they_lie) return attend_whole_vectors(b, out, out_stride, scratch);
  float* k = scratch + kMostQueries * kBlockRows;
  float* v = k + kBlockRows * wk;
  float* q = v + kBlockRows * wv;
  float* wide = q + b.n_q * wk;  // [wv + 2, n_q]
  pad_rows(b.k, b.k_stride, b.type_k, b.n_rows, b.d_k, k, wk);
  pad_rows(b.v, b.v_stride, b.type_v, b.n_rows, b.d_v, v, wv);
  const size_t d_k = static_cast<size_t>(b.d_k) * sizeof(float);
  pad_rows(reinterpret_cast<const char*>(b.q), d_k, GGML_TYPE_F32, b.n_q, b.d_k, q, wk);
  AttentionBlock whole = b;
  whole.q = q;
  whole.k = reinterpret_cast<const char*>(k);
  whole.v = reinterpret_cast<const char*>(v);
  whole.type_k = whole.type_v = GGML_TYPE_F32;
  whole.d_k = wk;
  whole.d_v = wv;
  whole.k_stride = static_cast<size_t>(wk) * sizeof(float);
  whole.v_stride = static_cast<size_t>(wv) * sizeof(float);
  attend_whole_vectors(whole, wide, static_cast<size_t>(wv + 2), scratch);
  for (int64_t i = 0; i < b.n_q; ++i) {
    std::copy_n(wide + i * (wv + 2), b.d_v + 2, out + static_cast<size_t>(i) * out_stride);
  }
}

int64_t AttentionTarget() {
  return HWY_TARGET;
}

}  // namespace HWY_NAMESPACE
}  // namespace curdkv
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace curdkv {

HWY_EXPORT(ScratchFloats);
HWY_EXPORT(AttendBlock);
HWY_EXPORT(AttentionTarget);

size_t attention_scratch_floats(int64_t n_q, int64_t d_k, int64_t d_v) {
  return HWY_DYNAMIC_DISPATCH(ScratchFloats)(n_q, d_k, d_v);
}

void attend_block(const AttentionBlock& block, float* out, size_t out_stride, float* scratch) {
  HWY_DYNAMIC_DISPATCH(AttendBlock)(block, out, out_stride, scratch);
}

std::string attention_kernel_name() {
  return std::string("F32, ") + hwy::TargetName(HWY_DYNAMIC_DISPATCH(AttentionTarget)());
}

void fold_block(float* acc, const float* part, int64_t d_v) {
  if (part[1] == 0) return;
  const float max = std::max(acc[0], part[0]);
  const float scale_acc = acc[1] == 0 ? 0 : std::exp(acc[0] - max);
  const float scale_part = std::exp(part[0] - max);
  acc[0] = max;
  acc[1] = acc[1] * scale_acc + part[1] * scale_part;
  for (int64_t d = 2; d < d_v + 2; ++d) acc[d] = acc[d] * scale_acc + part[d] * scale_part;
}

void finish_blocks(const float* acc, float* out, int64_t d_v) {
  const float inverse = acc[1] == 0 ? 0 : 1 / acc[1];
  for (int64_t d = 0; d < d_v; ++d) out[d] = acc[d + 2] * inverse;
}

}  // namespace curdkv
#endif  // HWY_ONCE
