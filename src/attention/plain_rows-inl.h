// A block of rows as they lie, in F32: products with a few queries, and mixes of rows. Included once for each
// instruction set.
#if defined(CURDKV_ATTENTION_PLAIN_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CURDKV_ATTENTION_PLAIN_ROWS_INL_H_
#undef CURDKV_ATTENTION_PLAIN_ROWS_INL_H_
#else
#define CURDKV_ATTENTION_PLAIN_ROWS_INL_H_
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "attention/attention_kernel.h"
#include "attention/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace curdkv {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

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
    HWY_UNROLL(32)  // else GCC for ARM has more than 16 in memory, too
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
  HWY_UNROLL(32)
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

// Calls f with n as a std::integral_constant<int, n>, 1 <= n <= kMost.
template <int kMost, typename F>
HWY_INLINE void with_count(int64_t n, const F& f) {
  if constexpr (kMost > 1) {
    if (n < kMost) return with_count<kMost - 1>(n, f);
  }
  f(std::integral_constant<int, kMost>());
}

}  // namespace HWY_NAMESPACE
}  // namespace curdkv
HWY_AFTER_NAMESPACE();

#endif
