// Runs something once with every instruction set that this CPU has and the attention kernels were compiled
// for, which it is told (HWY_AVX2, ...) if it takes it.
#pragma once

#include <gtest/gtest.h>
#include <hwy/highway.h>

#include <type_traits>

namespace curdkv::testing {

// Whether a prefill's attention, and scores like it, multiply heads of d dimensions in pairs of 16-bit
// integers.
inline bool in_pairs(int64_t target, int64_t d) {
  if ((target & (HWY_AVX3 | HWY_AVX3_DL)) != 0) return d % 16 == 0;
  if (target == HWY_AVX2) return d % 8 == 0;
  return (target & (HWY_SSE4 | HWY_SSSE3)) != 0 && d % 4 == 0;
}

template <typename F>
void with_every_instruction_set(const F& f) {
  int n = 0;
  for (int64_t rest = hwy::SupportedTargets() & HWY_TARGETS; rest != 0; rest &= rest - 1, ++n) {
    const int64_t target = rest & -rest;
    SCOPED_TRACE(hwy::TargetName(target));
    hwy::GetChosenTarget().Update(target);
    if constexpr (std::is_invocable_v<F, int64_t>) {
      f(target);
    } else {
      f();
    }
  }
  hwy::GetChosenTarget().DeInit();
  EXPECT_GE(n, 1);
}

}  // namespace curdkv::testing
