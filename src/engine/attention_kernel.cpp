#include "engine/attention_kernel.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

// Arrays of vectors below need vectors of a fixed size.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/attention_kernel.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <hwy/contrib/math/math-inl.h>

HWY_BEFORE_NAMESPACE();
namespace curdkv {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;
constexpr size_t kAlign = 64;  // bytes; of the scratch, at least the widest vector

// Rows are padded to whole vectors with zeros, so that no loop below has a remainder.
int64_t padded(int64_t n) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(Floats()));
  return (n + lanes - 1) / lanes * lanes;
}

void f16_to_f32(const ggml_fp16_t* in, float* out, int64_t n) {
  const Floats df;
  const hn::Rebind<hwy::float16_t, Floats> dh;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(df));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto half = hn::LoadU(dh, reinterpret_cast<const hwy::float16_t*>(in + i));
    hn::StoreU(hn::PromoteTo(df, half), df, out + i);
  }
  for (; i < n; ++i) out[i] = ggml_fp16_to_fp32(in[i]);
}

// ggml's Q8_0: blocks of 32 int8 with one F16 scale before them.
void q8_0_to_f32(const char* in, float* out, int64_t n) {
  const Floats df;
  const hn::Rebind<int8_t, Floats> d8;
  const hn::Rebind<int32_t, Floats> d32;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(df));
  for (int64_t b = 0; b < n / 32; ++b, in += 34) {
    ggml_fp16_t half;
    std::memcpy(&half, in, sizeof half);
    const auto scale = hn::Set(df, ggml_fp16_to_fp32(half));
    for (int64_t i = 0; i < 32; i += lanes) {
      const auto q = hn::LoadU(d8, reinterpret_cast<const int8_t*>(in + 2 + i));
      hn::StoreU(hn::Mul(scale, hn::ConvertTo(df, hn::PromoteTo(d32, q))), df, out + b * 32 + i);
    }
  }
}

// Rows of any cache type as F32, `width` floats apart, the last of them zero.
void rows_to_f32(const char* in, size_t stride, ggml_type type, int64_t n_rows, int64_t d, float* out,
                 int64_t width) {
  for (int64_t r = 0; r < n_rows; ++r, in += stride, out += width) {
    if (type == GGML_TYPE_F16) {
      f16_to_f32(reinterpret_cast<const ggml_fp16_t*>(in), out, d);
    } else if (type == GGML_TYPE_Q8_0) {
      q8_0_to_f32(in, out, d);
    } else {
      std::memcpy(out, in, static_cast<size_t>(d) * sizeof(float));
    }
    std::fill(out + d, out + width, 0.0f);
  }
}

// scores[q][r] = q . k[r] for kQ queries at once, so that each K row is loaded once for all of them.
template <int kQ>
void dot_rows(const float* const* q, const float* k, int64_t n_rows, int64_t width, float* scores) {
  const Floats df;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(df));
  for (int64_t r = 0; r < n_rows; ++r) {
    hn::Vec<Floats> sum[kQ];
    for (int i = 0; i < kQ; ++i) sum[i] = hn::Zero(df);
    for (int64_t d = 0; d < width; d += lanes) {
      const auto row = hn::Load(df, k + r * width + d);
      for (int i = 0; i < kQ; ++i) sum[i] = hn::MulAdd(row, hn::Load(df, q[i] + d), sum[i]);
    }
    for (int i = 0; i < kQ; ++i) scores[i * kBlockRows + r] = hn::GetLane(hn::SumOfLanes(df, sum[i]));
  }
}

// out[q][d] = sum over r of p[q][r] * v[r][d], for kQ queries at once.
template <int kQ>
void mix_rows(const float* p, const float* v, int64_t n_rows, int64_t width, float* out) {
  const Floats df;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(df));
  for (int64_t d = 0; d < width; d += lanes) {
    hn::Vec<Floats> sum[kQ];
    for (int i = 0; i < kQ; ++i) sum[i] = hn::Zero(df);
    for (int64_t r = 0; r < n_rows; ++r) {
      const auto row = hn::Load(df, v + r * width + d);
      for (int i = 0; i < kQ; ++i) sum[i] = hn::MulAdd(hn::Set(df, p[i * kBlockRows + r]), row, sum[i]);
    }
    for (int i = 0; i < kQ; ++i) hn::Store(sum[i], df, out + i * width + d);
  }
}

// scores[0, kBlockRows) become exp(score - max), 0 beyond the visible; returns their sum, and the max.
float softmax_row(float* scores, int64_t n_visible, float* max_out) {
  const Floats df;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(df));
  const float lowest = -std::numeric_limits<float>::infinity();
  std::fill(scores + n_visible, scores + kBlockRows, lowest);
  auto max = hn::Set(df, lowest);
  for (int64_t i = 0; i < kBlockRows; i += lanes) max = hn::Max(max, hn::Load(df, scores + i));
  const float m = hn::GetLane(hn::MaxOfLanes(df, max));
  *max_out = m;
  if (!(m > lowest)) {
    std::fill(scores, scores + kBlockRows, 0.0f);
    return 0;
  }
  auto sum = hn::Zero(df);
  const auto floor =
      hn::Set(df, -87.0f);  // exp() below this is 0 for our purposes, and -inf must not reach it
  for (int64_t i = 0; i < kBlockRows; i += lanes) {
    const auto x = hn::Sub(hn::Load(df, scores + i), hn::Set(df, m));
    const auto e = hn::IfThenElseZero(hn::Gt(x, floor), hn::Exp(df, hn::Max(x, floor)));
    hn::Store(e, df, scores + i);
    sum = hn::Add(sum, e);
  }
  return hn::GetLane(hn::SumOfLanes(df, sum));
}

template <int kQ>
void attend_some(const AttentionBlock& b, int64_t first, const float* k, const float* v, int64_t wk,
                 int64_t wv, const float* q_padded, float* scores, float* mixed, float* out,
                 size_t out_stride) {
  const float* q[kQ];
  for (int i = 0; i < kQ; ++i) q[i] = q_padded + (first + i) * wk;
  dot_rows<kQ>(q, k, b.n_rows, wk, scores);
  for (int i = 0; i < kQ; ++i) {
    float* o = out + static_cast<size_t>(first + i) * out_stride;
    o[1] = softmax_row(scores + i * kBlockRows, b.n_visible[first + i], &o[0]);
  }
  mix_rows<kQ>(scores, v, b.n_rows, wv, mixed);
  for (int i = 0; i < kQ; ++i) {
    std::memcpy(out + static_cast<size_t>(first + i) * out_stride + 2, mixed + i * wv,
                static_cast<size_t>(b.d_v) * sizeof(float));
  }
}

size_t ScratchFloats(int64_t n_q, int64_t d_k, int64_t d_v) {
  const int64_t wk = padded(d_k), wv = padded(d_v);
  const int64_t align = static_cast<int64_t>(kAlign / sizeof(float));
  return static_cast<size_t>(kBlockRows * (wk + wv) + n_q * wk + 4 * kBlockRows + 4 * wv + align);
}

void AttendBlock(const AttentionBlock& b, float* out, size_t out_stride, float* scratch) {
  const int64_t wk = padded(b.d_k), wv = padded(b.d_v);
  const auto misaligned = reinterpret_cast<uintptr_t>(scratch) % kAlign;
  float* k = misaligned == 0 ? scratch : scratch + (kAlign - misaligned) / sizeof(float);
  float* v = k + kBlockRows * wk;
  float* scores = v + kBlockRows * wv;  // [kBlockRows, 4]
  float* mixed = scores + 4 * kBlockRows;
  float* q = mixed + 4 * wv;
  rows_to_f32(b.k, b.k_stride, b.type_k, b.n_rows, b.d_k, k, wk);
  rows_to_f32(b.v, b.v_stride, b.type_v, b.n_rows, b.d_v, v, wv);
  for (int64_t i = 0; i < b.n_q; ++i) {
    std::memcpy(q + i * wk, b.q[i], static_cast<size_t>(b.d_k) * sizeof(float));
    std::fill(q + i * wk + b.d_k, q + (i + 1) * wk, 0.0f);
  }
  int64_t i = 0;
  for (; i + 4 <= b.n_q; i += 4) attend_some<4>(b, i, k, v, wk, wv, q, scores, mixed, out, out_stride);
  if (b.n_q - i == 3) attend_some<3>(b, i, k, v, wk, wv, q, scores, mixed, out, out_stride);
  if (b.n_q - i == 2) attend_some<2>(b, i, k, v, wk, wv, q, scores, mixed, out, out_stride);
  if (b.n_q - i == 1) attend_some<1>(b, i, k, v, wk, wv, q, scores, mixed, out, out_stride);
}

}  // namespace HWY_NAMESPACE
}  // namespace curdkv
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace curdkv {

HWY_EXPORT(ScratchFloats);
HWY_EXPORT(AttendBlock);

size_t attention_scratch_floats(int64_t n_q, int64_t d_k, int64_t d_v) {
  return HWY_DYNAMIC_DISPATCH(ScratchFloats)(n_q, d_k, d_v);
}

void attend_block(const AttentionBlock& block, float* out, size_t out_stride, float* scratch) {
  HWY_DYNAMIC_DISPATCH(AttendBlock)(block, out, out_stride, scratch);
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
