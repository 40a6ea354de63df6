#include "engine/prefill_kernel.h"

#include <algorithm>
#include <limits>

// Arrays of vectors below need vectors of a fixed size.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/prefill_kernel.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "engine/exp2-inl.h"

// Queries lie across the lanes: a strip is as many of them as two vectors hold, with scores S[key][query] and
// outputs O[dimension][query]. Keys and values are then broadcast element by element, as they lie in memory,
// and softmax goes down the keys without ever adding up lanes.
HWY_BEFORE_NAMESPACE();
namespace curdkv {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;
using Vec = hn::Vec<Floats>;
constexpr int64_t kLanes = hn::MaxLanes(Floats());
constexpr int64_t kVectors = 2;
constexpr int64_t kStrip = kVectors * kLanes;
constexpr int64_t kKeys = 128;  // in a block, whose scores and rows stay in the cache
// Accumulators are kRows x kVectors registers of 16, or of 32 with AVX-512 and NEON.
constexpr int64_t kRows = HWY_ARCH_ARM || kLanes == 16 ? 8 : 4;
static_assert(kTileUnit % kStrip == 0 && kKeys % kRows == 0);

// c[i][strip] = c[i][strip] * scale + sum over k of a[i * a_row + k * a_step] * b[k][strip], for kRows rows
// i. scale: F32 [strip], or null for 0.
HWY_INLINE void multiply_rows(const float* a, size_t a_row, size_t a_step, const float* b, int64_t n,
                              const float* scale, float* c) {
  const Floats df;
  Vec sum[kRows][kVectors];
  HWY_UNROLL(8)
  for (int64_t i = 0; i < kRows; ++i) {
    for (int64_t j = 0; j < kVectors; ++j) sum[i][j] = hn::Zero(df);
  }
  for (int64_t k = 0; k < n; ++k, a += a_step, b += kStrip) {
    Vec column[kVectors];
    for (int64_t j = 0; j < kVectors; ++j) column[j] = hn::Load(df, b + j * kLanes);
    HWY_UNROLL(8)
    for (int64_t i = 0; i < kRows; ++i) {
      const auto element = hn::Set(df, a[static_cast<size_t>(i) * a_row]);
      for (int64_t j = 0; j < kVectors; ++j) sum[i][j] = hn::MulAdd(element, column[j], sum[i][j]);
    }
  }
  HWY_UNROLL(8)
  for (int64_t i = 0; i < kRows; ++i) {
    for (int64_t j = 0; j < kVectors; ++j) {
      float* to = c + i * kStrip + j * kLanes;
      if (scale != nullptr)
        sum[i][j] = hn::MulAdd(hn::Load(df, to), hn::Load(df, scale + j * kLanes), sum[i][j]);
      hn::Store(sum[i][j], df, to);
    }
  }
}

// Rows [0, n) as F32, and zeros up to the next multiple of kRows.
HWY_INLINE void widen(const char* rows, size_t stride, ggml_type type, int64_t n, int64_t d, float* to) {
  const Floats df;
  const hn::Rebind<hwy::float16_t, Floats> dh;
  for (int64_t r = 0; r < n; ++r, rows += stride, to += d) {
    if (type == GGML_TYPE_F32) {
      std::copy_n(reinterpret_cast<const float*>(rows), d, to);
    } else if (d % kLanes == 0) {
      const auto* from = reinterpret_cast<const hwy::float16_t*>(rows);
      for (int64_t i = 0; i < d; i += kLanes)
        hn::StoreU(hn::PromoteTo(df, hn::LoadU(dh, from + i)), df, to + i);
    } else {
      ggml_fp16_to_fp32_row(reinterpret_cast<const ggml_fp16_t*>(rows), to, d);
    }
  }
  std::fill(to, to + (n + kRows - 1) / kRows * kRows * d - n * d, 0.0f);
}

// scores[key][strip] of keys [first_key, first_key + n), for queries at positions `position` and on, become
// powers of two. max, sum: of the strip's queries so far, updated; scale: what sums so far are to be
// multiplied by.
HWY_INLINE void soften(float* scores, int64_t first_key, int64_t n, int64_t position, float* max, float* sum,
                       float* scale) {
  const Floats df;
  const auto lowest = hn::Set(df, -std::numeric_limits<float>::infinity());
  for (int64_t j = 0; j < kVectors; ++j, scores += kLanes, max += kLanes, sum += kLanes, scale += kLanes) {
    // A key is seen if it is no later than the query; counted from first_key, so that small numbers are
    // compared.
    const auto last_seen =
        hn::Add(hn::Set(df, static_cast<float>(position + j * kLanes - first_key)), hn::Iota(df, 0.0f));
    const auto before = hn::Load(df, max);
    auto most = before;
    for (int64_t i = 0; i < n; ++i) {
      auto s = hn::Load(df, scores + i * kStrip);
      if (first_key + i > position + j * kLanes) {
        s = hn::IfThenElse(hn::Le(hn::Set(df, static_cast<float>(i)), last_seen), s, lowest);
        hn::Store(s, df, scores + i * kStrip);
      }
      most = hn::Max(most, s);
    }
    const auto shrink = power_of_two_or_zero(hn::Sub(before, most));
    auto total = hn::Mul(hn::Load(df, sum), shrink);
    for (int64_t i = 0; i < n; ++i) {
      const auto p = power_of_two_or_zero(hn::Sub(hn::Load(df, scores + i * kStrip), most));
      hn::Store(p, df, scores + i * kStrip);
      total = hn::Add(total, p);
    }
    hn::Store(most, df, max);
    hn::Store(total, df, sum);
    hn::Store(shrink, df, scale);
  }
}

// Row r of the tile is token r % n_tokens of query head r / n_tokens; strips are of consecutive rows.
void AttendTile(const PrefillTile& t, float* scratch) {
  const int64_t n_rows = t.n_group * t.n_tokens, d_k = t.d_k, d_v = t.d_v;
  float* q = scratch;                         // [n_rows / kStrip][d_k][kStrip]
  float* o = q + n_rows * d_k;                // [n_rows / kStrip][d_v][kStrip]
  float* max = o + n_rows * d_v;              // [n_rows]
  float* sum = max + n_rows;                  // [n_rows]
  float* s = sum + n_rows;                    // [kKeys][kStrip]
  float* shrink = s + kKeys * kStrip;         // [kStrip]
  float* k = shrink + kStrip;                 // [kKeys][d_k]
  float* v = k + kKeys * d_k;                 // [kKeys][d_v]
  const float scale = t.scale * 1.44269504f;  // exp(x) = 2^(x log2(e))
  for (int64_t r = 0; r < n_rows; ++r) {
    const auto* from =
        reinterpret_cast<const float*>(t.q + static_cast<size_t>(r / t.n_tokens) * t.q_head_stride +
                                       static_cast<size_t>(r % t.n_tokens) * t.q_token_stride);
    for (int64_t d = 0; d < d_k; ++d) q[(r / kStrip * d_k + d) * kStrip + r % kStrip] = from[d] * scale;
  }
  std::fill_n(o, n_rows * d_v, 0.0f);
  std::fill_n(max, n_rows, -std::numeric_limits<float>::infinity());
  std::fill_n(sum, n_rows, 0.0f);
  const int64_t n_keys = t.first + t.n_tokens;  // that the last query sees
  for (int64_t at = 0; at < n_keys; at += kKeys) {
    const int64_t n = std::min(kKeys, n_keys - at);
    widen(t.k + static_cast<size_t>(at) * t.k_stride, t.k_stride, t.type_k, n, d_k, k);
    widen(t.v + static_cast<size_t>(at) * t.v_stride, t.v_stride, t.type_v, n, d_v, v);
    for (int64_t r = 0; r < n_rows; r += kStrip) {
      const int64_t position = t.first + r % t.n_tokens;  // of the strip's first query
      const int64_t n_seen = std::min(kKeys, (position + kStrip - at + kRows - 1) / kRows * kRows);
      if (n_seen <= 0) continue;
      for (int64_t i = 0; i < n_seen; i += kRows) {
        multiply_rows(k + i * d_k, static_cast<size_t>(d_k), 1, q + r * d_k, d_k, nullptr, s + i * kStrip);
      }
      soften(s, at, n_seen, position, max + r, sum + r, shrink);
      for (int64_t d = 0; d < d_v; d += kRows) {
        multiply_rows(v + d, 1, static_cast<size_t>(d_v), s, n_seen, shrink, o + r * d_v + d * kStrip);
      }
    }
  }
  for (int64_t r = 0; r < n_rows; ++r) {
    float* to = t.out + static_cast<size_t>(r % t.n_tokens) * t.out_token_stride + r / t.n_tokens * d_v;
    const float inverse = 1 / sum[r];
    for (int64_t d = 0; d < d_v; ++d) to[d] = o[(r / kStrip * d_v + d) * kStrip + r % kStrip] * inverse;
  }
}

size_t PrefillScratchFloats(int64_t n_tokens, int64_t n_group, int64_t d_k, int64_t d_v) {
  return static_cast<size_t>(n_group * n_tokens * (d_k + d_v + 2) + (kKeys + 1) * kStrip +
                             kKeys * (d_k + d_v));
}

}  // namespace HWY_NAMESPACE
}  // namespace curdkv
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace curdkv {

HWY_EXPORT(AttendTile);
HWY_EXPORT(PrefillScratchFloats);

size_t prefill_scratch_floats(int64_t n_tokens, int64_t n_group, int64_t d_k, int64_t d_v) {
  return HWY_DYNAMIC_DISPATCH(PrefillScratchFloats)(n_tokens, n_group, d_k, d_v);
}

void attend_tile(const PrefillTile& tile, float* scratch) {
  HWY_DYNAMIC_DISPATCH(AttendTile)(tile, scratch);
}

}  // namespace curdkv
#endif  // HWY_ONCE
