#include "attention/chunk_kernel.h"

#include <algorithm>
#include <limits>

#include "base/scratch.h"

// Arrays of vectors below need vectors of a fixed size.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/chunk_kernel.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "attention/exp2-inl.h"
#include "attention/prefill_pairs-inl.h"
#include "attention/prefill_strips-inl.h"

HWY_BEFORE_NAMESPACE();
namespace curdkv {
namespace HWY_NAMESPACE {

// Keys lie in strips, one in each lane; queries come kRows at a time and are broadcast element by element. A
// query's scores then lie in a row, as long as the chunk and no longer than the cache holds.
struct ChunkScratch {
  int64_t width;   // keys, up to whole strips and blocks of rows
  float* rows;     // [kRows][d]: those at work, widened
  float* keys;     // [width / kStrip][d][kStrip]
  float* s;        // [kRows][width]: scores, then powers of two
  float* columns;  // [n_group][width]: sums of each query head
  float* scale;    // [width] of keys' scores, [kRows] of queries'
  int32_t* row_pairs;
  int32_t* key_pairs;  // [width / kStrip][d / 2][kStrip]

  ChunkScratch(Scratch& all, int64_t n_tokens, int64_t n_group, int64_t d) : width(whole_units(n_tokens)) {
    rows = all.take<float>(kRows * d);
    s = all.take<float>(kRows * width);
    columns = all.take<float>(n_group * width);
    scale = all.take<float>(width + kRows);
    row_pairs = all.take<int32_t>(kRows * d / 2);
    // One or the other.
    keys = all.take<float>(width * d);
    key_pairs = reinterpret_cast<int32_t*>(keys);
  }
};

// exp2(score - the highest of its row), in place of the scores s [kRows][width] of which n are there; each
// comes to be multiplied by its row's scale first. inverse: one over a row's sum. n_zeros: further scores of
// each row, 0 each. Steps alternate between rows, as within one they wait for each other.
HWY_INLINE void soften_rows(float* s, int64_t n, int64_t width, const float* scale, int64_t n_zeros,
                            float* inverse) {
  const Floats df;
  const auto lowest = hn::Set(df, -std::numeric_limits<float>::infinity());
  for (int64_t i = 0; i < kRows; ++i) std::fill(s + i * width + n, s + (i + 1) * width, hn::GetLane(lowest));
  Vec most[kRows], sum[kRows];
  HWY_UNROLL(8)
  for (int64_t i = 0; i < kRows; ++i) most[i] = n_zeros > 0 ? hn::Zero(df) : lowest;
  for (int64_t at = 0; at < width; at += kLanes) {
    HWY_UNROLL(8)
    for (int64_t i = 0; i < kRows; ++i) most[i] = hn::Max(most[i], hn::Load(df, s + i * width + at));
  }
  HWY_UNROLL(8)
  for (int64_t i = 0; i < kRows; ++i) most[i] = hn::Mul(hn::MaxOfLanes(df, most[i]), hn::Set(df, scale[i]));
  for (int64_t i = 0; i < kRows; ++i) {
    const auto by = hn::Set(df, scale[i]), offset = most[i];
    sum[i] = hn::Zero(df);
    for (float* x = s + i * width; x < s + (i + 1) * width; x += kLanes) {
      const auto p = power_of_two_roughly(hn::MulSub(hn::Load(df, x), by, offset));
      hn::Store(p, df, x);
      sum[i] = hn::Add(sum[i], p);
    }
  }
  const auto zeros = hn::Set(df, static_cast<float>(n_zeros));
  HWY_UNROLL(8)
  for (int64_t i = 0; i < kRows; ++i) {
    const auto of_zeros = hn::Mul(power_of_two_or_zero(hn::Neg(most[i])), zeros);
    inverse[i] = 1 / hn::GetLane(hn::Add(hn::SumOfLanes(df, sum[i]), of_zeros));
  }
}

// Scores of the kRows rows at work against all keys.
HWY_INLINE void score_floats(const ChunkScratch& c, int64_t d) {
  const Floats df;
  for (int64_t at = 0; at < c.width; at += kStrip) {
    multiply_rows(c.rows, static_cast<size_t>(d), 1, c.keys + at * d, d, [&](int64_t row, int64_t j, Vec x) {
      hn::Store(x, df, c.s + row * c.width + at + j * kLanes);
    });
  }
}

// Likewise, but for the queries' scales.
HWY_INLINE void score_pairs(const ChunkScratch& c, int64_t d) {
  const Floats df;
  for (int64_t at = 0; at < c.width; at += kStrip) {
    multiply_rows(c.row_pairs, static_cast<size_t>(d / 2), 1, c.key_pairs + at * d / 2, d / 2,
                  [&](int64_t row, int64_t j, IntVec x) {
                    const auto scale = hn::Load(df, c.scale + at + j * kLanes);
                    hn::Store(hn::Mul(hn::ConvertTo(df, x), scale), df,
                              c.s + row * c.width + at + j * kLanes);
                  });
  }
}

void AttendChunk(const AttentionChunk& t, char* scratch) {
  const Floats df;
  Scratch all(scratch);
  const ChunkScratch c(all, t.n_tokens, t.n_group, t.d);
  const bool in_pairs =
      kHasPairs && t.type_q == GGML_TYPE_F16 && t.type_k == GGML_TYPE_F16 && t.d % kLanes == 0;
  const float scale = t.scale * 1.44269504f;  // exp(x) = 2^(x log2(e))
  float* row_scale = c.scale + c.width;
  std::fill_n(row_scale, kRows, 1.0f);
  for (int64_t r = 0; r < c.width; r += kRows) {
    widen(t.k + static_cast<size_t>(r) * t.k_stride, t.k_stride, t.type_k,
          std::clamp<int64_t>(t.n_tokens - r, 0, kRows), t.d, c.rows);
    if (in_pairs) {
      pack_rows(c.rows, kRows, t.d, kNormQK, c.row_pairs, c.scale + r);
      turn(c.row_pairs, kRows, t.d / 2, r, c.key_pairs);
      for (int64_t i = r; i < r + kRows; ++i) c.scale[i] *= scale;
    } else {
      for (int64_t i = 0; i < kRows * t.d; ++i) c.rows[i] *= scale;
      turn(c.rows, kRows, t.d, r, c.keys);
    }
  }
  std::fill_n(c.columns, t.n_group * c.width, 0.0f);
  for (int64_t r = 0; r < t.n_tokens; r += kRows) {
    const int64_t n = std::min(kRows, t.n_tokens - r);
    for (int64_t h = 0; h < t.n_group; ++h) {  // a token's heads lie side by side
      float* columns = c.columns + h * c.width;
      widen(t.q + static_cast<size_t>(h) * t.q_head_stride + static_cast<size_t>(r) * t.q_token_stride,
            t.q_token_stride, t.type_q, n, t.d, c.rows);
      if (in_pairs) {
        pack_rows(c.rows, kRows, t.d, kNormQK, c.row_pairs, row_scale);
        std::replace(row_scale, row_scale + kRows, 0.0f, 1.0f);  // rows of zeros
        score_pairs(c, t.d);
      } else {
        score_floats(c, t.d);
      }
      float inverse[kRows];
      soften_rows(c.s, t.n_tokens, c.width, row_scale, t.n_zeros, inverse);
      std::fill(inverse + n, inverse + kRows, 0.0f);
      for (int64_t at = 0; at < c.width; at += kLanes) {
        auto sum = hn::Load(df, columns + at);
        HWY_UNROLL(8)
        for (int64_t i = 0; i < kRows; ++i) {
          sum = hn::MulAdd(hn::Load(df, c.s + i * c.width + at), hn::Set(df, inverse[i]), sum);
        }
        hn::Store(sum, df, columns + at);
      }
    }
  }
  // A query of zeros looks at all alike.
  const float from_zeros = static_cast<float>(t.n_zeros) / static_cast<float>(t.n_tokens + t.n_zeros);
  for (int64_t h = 0; h < t.n_group; ++h) {
    for (int64_t i = 0; i < t.n_tokens; ++i)
      t.out[h * t.out_head_stride + i] = c.columns[h * c.width + i] + from_zeros;
  }
}

size_t ChunkScratchBytes(int64_t n_tokens, int64_t n_group, int64_t d) {
  return Scratch::measure([&](Scratch& all) { (void)ChunkScratch(all, n_tokens, n_group, d); });
}

}  // namespace HWY_NAMESPACE
}  // namespace curdkv
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace curdkv {

HWY_EXPORT(AttendChunk);
HWY_EXPORT(ChunkScratchBytes);

size_t chunk_scratch_bytes(int64_t n_tokens, int64_t n_group, int64_t d) {
  return HWY_DYNAMIC_DISPATCH(ChunkScratchBytes)(n_tokens, n_group, d);
}

void attend_chunk(const AttentionChunk& chunk, char* scratch) {
  HWY_DYNAMIC_DISPATCH(AttendChunk)(chunk, scratch);
}

}  // namespace curdkv
#endif  // HWY_ONCE
