#include "attention_rungs.h"

#include <algorithm>
#include <cmath>
#include <vector>

#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention_rungs.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <hwy/contrib/math/math-inl.h>

HWY_BEFORE_NAMESPACE();
namespace curdkv::measure {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using Floats = hn::ScalableTag<float>;
using Vec = hn::Vec<Floats>;

int64_t lanes() {
  return static_cast<int64_t>(hn::Lanes(Floats()));
}

float exp_row(float* scores, int64_t n_visible, float* max_out) {
  const Floats df;
  const float lowest = -INFINITY;
  std::fill(scores + n_visible, scores + kBlockRows, lowest);
  *max_out = *std::max_element(scores, scores + kBlockRows);
  auto sum = hn::Zero(df);
  for (int64_t i = 0; i < kBlockRows; i += lanes()) {
    const auto x = hn::Max(hn::Sub(hn::LoadU(df, scores + i), hn::Set(df, *max_out)), hn::Set(df, -87.0f));
    const auto e = hn::Exp(df, x);
    hn::StoreU(e, df, scores + i);
    sum = hn::Add(sum, e);
  }
  std::fill(scores + n_visible, scores + kBlockRows, 0.0f);
  return hn::GetLane(hn::SumOfLanes(df, sum));
}

template <int kQ>
void attend_unpacked(const AttentionBlock& b, int64_t first, const float* k, const float* v, float* scores,
                     float* out, size_t out_stride) {
  const Floats df;
  for (int64_t r = 0; r < b.n_rows; ++r) {
    Vec sum[kQ];
    for (auto& s : sum) s = hn::Zero(df);
    for (int64_t d = 0; d < b.d_k; d += lanes()) {
      const auto row = hn::LoadU(df, k + r * b.d_k + d);
      for (int i = 0; i < kQ; ++i)
        sum[i] = hn::MulAdd(row, hn::LoadU(df, b.q + (first + i) * b.d_k + d), sum[i]);
    }
    for (int i = 0; i < kQ; ++i) scores[i * kBlockRows + r] = hn::GetLane(hn::SumOfLanes(df, sum[i]));
  }
  for (int i = 0; i < kQ; ++i) {
    float* o = out + static_cast<size_t>(first + i) * out_stride;
    o[1] = exp_row(scores + i * kBlockRows, b.n_visible[first + i], &o[0]);
  }
  for (int64_t d = 0; d < b.d_v; d += lanes()) {
    Vec sum[kQ];
    for (auto& s : sum) s = hn::Zero(df);
    for (int64_t r = 0; r < b.n_rows; ++r) {
      const auto row = hn::LoadU(df, v + r * b.d_v + d);
      for (int i = 0; i < kQ; ++i) sum[i] = hn::MulAdd(hn::Set(df, scores[i * kBlockRows + r]), row, sum[i]);
    }
    for (int i = 0; i < kQ; ++i) {
      hn::StoreU(sum[i], df, out + static_cast<size_t>(first + i) * out_stride + 2 + d);
    }
  }
}

void AttendUnpackedBlock(const AttentionBlock& b, float* out, size_t out_stride, float* scratch) {
  float* k = scratch;
  float* v = k + kBlockRows * b.d_k;
  float* scores = v + kBlockRows * b.d_v;
  for (int64_t r = 0; r < b.n_rows; ++r) {
    unpack(b.k + static_cast<size_t>(r) * b.k_stride, b.type_k, b.d_k, k + r * b.d_k);
    unpack(b.v + static_cast<size_t>(r) * b.v_stride, b.type_v, b.d_v, v + r * b.d_v);
  }
  int64_t i = 0;
  for (; i + 4 <= b.n_q; i += 4) attend_unpacked<4>(b, i, k, v, scores, out, out_stride);
  if (b.n_q - i == 3) attend_unpacked<3>(b, i, k, v, scores, out, out_stride);
  if (b.n_q - i == 2) attend_unpacked<2>(b, i, k, v, scores, out, out_stride);
  if (b.n_q - i == 1) attend_unpacked<1>(b, i, k, v, scores, out, out_stride);
}

}  // namespace HWY_NAMESPACE
}  // namespace curdkv::measure
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace curdkv::measure {

HWY_EXPORT(AttendUnpackedBlock);

void unpack(const char* row, ggml_type type, int64_t d, float* out) {
  if (type == GGML_TYPE_F32) {
    std::copy_n(reinterpret_cast<const float*>(row), d, out);
  } else {
    ggml_get_type_traits(type)->to_float(row, out, d);
  }
}

void attend_unpacked_block(const AttentionBlock& block, float* out, size_t out_stride, float* scratch) {
  HWY_DYNAMIC_DISPATCH(AttendUnpackedBlock)(block, out, out_stride, scratch);
}

size_t rung_scratch_floats(int64_t n_q, int64_t d_k, int64_t d_v) {
  return attention_scratch_floats(n_q, d_k, d_v) + static_cast<size_t>(kBlockRows * (d_k + d_v + n_q));
}

void attend_reference(const AttentionBlock& b, float* out, size_t out_stride, float*) {
  std::vector<float> row(static_cast<size_t>(std::max(b.d_k, b.d_v)));
  for (int64_t i = 0; i < b.n_q; ++i) {
    float* o = out + static_cast<size_t>(i) * out_stride;
    std::vector<double> scores, mixed(static_cast<size_t>(b.d_v), 0.0);
    for (int64_t r = 0; r < b.n_visible[i]; ++r) {
      unpack(b.k + static_cast<size_t>(r) * b.k_stride, b.type_k, b.d_k, row.data());
      double s = 0;
      for (int64_t d = 0; d < b.d_k; ++d)
        s += static_cast<double>(row[static_cast<size_t>(d)]) * b.q[i * b.d_k + d];
      scores.push_back(s);
    }
    const double max = scores.empty() ? -INFINITY : *std::max_element(scores.begin(), scores.end());
    double sum = 0;
    for (size_t r = 0; r < scores.size(); ++r) {
      const double weight = std::exp(scores[r] - max);
      sum += weight;
      unpack(b.v + r * b.v_stride, b.type_v, b.d_v, row.data());
      for (size_t d = 0; d < mixed.size(); ++d) mixed[d] += weight * static_cast<double>(row[d]);
    }
    o[0] = static_cast<float>(max);
    o[1] = static_cast<float>(sum);
    for (size_t d = 0; d < mixed.size(); ++d) o[2 + d] = static_cast<float>(mixed[d]);
  }
}

void attend_per_query(const AttentionBlock& b, float* out, size_t out_stride, float* scratch) {
  AttentionBlock one = b;
  one.n_q = 1;
  for (int64_t i = 0; i < b.n_q; ++i) {
    one.q = b.q + i * b.d_k;
    one.n_visible = b.n_visible + i;
    attend_block(one, out + static_cast<size_t>(i) * out_stride, out_stride, scratch);
  }
}

}  // namespace curdkv::measure
#endif  // HWY_ONCE
