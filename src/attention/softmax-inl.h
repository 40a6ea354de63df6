// Scores of a block of rows become weights. Included once for each instruction set.
#if defined(CURDKV_ATTENTION_SOFTMAX_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CURDKV_ATTENTION_SOFTMAX_INL_H_
#undef CURDKV_ATTENTION_SOFTMAX_INL_H_
#else
#define CURDKV_ATTENTION_SOFTMAX_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>
#include <limits>

#include "attention/attention_kernel.h"
#include "attention/exp2-inl.h"
#include "attention/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace curdkv {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

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

}  // namespace HWY_NAMESPACE
}  // namespace curdkv
HWY_AFTER_NAMESPACE();

#endif
