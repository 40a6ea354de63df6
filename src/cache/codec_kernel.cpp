#include "cache/codec_kernel.h"

#include <algorithm>
#include <cmath>
#include <utility>

#undef HWY_TARGET_INCLUDE
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#define HWY_TARGET_INCLUDE "cache/codec_kernel.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace curdkv {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;
using Ints = hn::RebindToSigned<Floats>;
using Vec = hn::Vec<Floats>;
constexpr int64_t kLanes = hn::MaxLanes(Floats());
constexpr int64_t kVectors = kRowAlign / kLanes;

// A sum over elements in 16 lanes, however long vectors are, added up in one order.
struct Sum {
  Vec lane[kVectors];
  Sum() {
    for (Vec& x : lane) x = hn::Zero(Floats());
  }
  float total() const {
    float all[kRowAlign], sum = 0;
    for (int64_t v = 0; v < kVectors; ++v) hn::StoreU(lane[v], Floats(), all + v * kLanes);
    for (const float x : all) sum += x;
    return sum;
  }
};

// x for the lanes of elements i + ... that are below d, else 0.
HWY_INLINE Vec below(int64_t d, int64_t i, Vec x) {
  if (i + kLanes <= d) return x;
  const Floats df;
  return hn::IfThenElseZero(hn::FirstN(df, static_cast<size_t>(std::max<int64_t>(0, d - i))), x);
}

HWY_INLINE void store_codes(hn::Vec<Ints> code, uint8_t* to) {
  const hn::Rebind<uint8_t, Ints> d8;
  hn::StoreU(hn::DemoteTo(d8, code), d8, to);
}

RowFit FitEvenly(const float* x, int64_t d, float step, float offset, uint8_t* code) {
  const Floats df;
  const auto inverse = hn::Set(df, step > 0 ? 1 / step : 0), middle = hn::Set(df, offset);
  const auto zero = hn::Zero(df), half = hn::Set(df, 0.5f), most = hn::Set(df, 2 * offset);
  Sum cross, square;
  for (int64_t i = 0; i < d; i += kRowAlign) {
    for (int64_t v = 0; v < kVectors; ++v) {
      const int64_t at = i + v * kLanes;
      const auto value = hn::LoadU(df, x + at);
      const auto place = hn::Add(hn::Add(hn::Mul(value, inverse), middle), half);
      // Of no number 0.
      const auto in = hn::IfThenElseZero(hn::Gt(place, zero), hn::Min(place, most));
      const auto below_it = hn::ConvertTo(Ints(), in);
      store_codes(below_it, code + at);
      const auto level = below(d, at, hn::Sub(hn::ConvertTo(df, below_it), middle));
      cross.lane[v] = hn::MulAdd(value, level, cross.lane[v]);
      square.lane[v] = hn::MulAdd(level, level, square.lane[v]);
    }
  }
  return {cross.total(), square.total()};
}

RowFit FitGaussian(const float* x, int64_t d, float scale, uint8_t* code) {
  const Floats df;
  const Ints di;
  float levels[4];
  for (int j = 0; j < 4; ++j) levels[j] = static_cast<float>(kLevels3[j] - 128);
  Sum cross, square;
  for (int64_t i = 0; i < d; i += kRowAlign) {
    for (int64_t v = 0; v < kVectors; ++v) {
      const int64_t at = i + v * kLanes;
      const auto value = hn::LoadU(df, x + at);
      const auto size = hn::Abs(value);
      auto level = hn::Set(df, levels[0]);
      auto n = hn::Zero(di);
      for (int j = 1; j < 4; ++j) {
        const auto above = hn::Gt(size, hn::Set(df, (levels[j - 1] + levels[j]) / 2 * scale));
        level = hn::IfThenElse(above, hn::Set(df, levels[j]), level);
        n = hn::IfThenElse(hn::RebindMask(di, above), hn::Set(di, j), n);
      }
      const auto negative = hn::RebindMask(di, hn::Lt(value, hn::Zero(df)));
      store_codes(hn::Add(n, hn::IfThenElseZero(negative, hn::Set(di, 4))), code + at);
      level = below(d, at, level);
      cross.lane[v] = hn::MulAdd(size, level, cross.lane[v]);
      square.lane[v] = hn::MulAdd(level, level, square.lane[v]);
    }
  }
  return {cross.total(), square.total()};
}

RowSize SizeOf(const float* x, int64_t d) {
  const Floats df;
  Sum squares;
  auto most = hn::Zero(df);
  for (int64_t i = 0; i < d; i += kRowAlign) {
    for (int64_t v = 0; v < kVectors; ++v) {
      const auto value = hn::LoadU(df, x + i + v * kLanes);
      squares.lane[v] = hn::MulAdd(value, value, squares.lane[v]);
      most = hn::Max(most, hn::Abs(value));
    }
  }
  return {std::sqrt(squares.total() / static_cast<float>(d)), hn::GetLane(hn::MaxOfLanes(df, most))};
}

// Sums and differences of neighbours, the sums first: done log2(n) times, every element has met every other
// (Pease 1968).
void TurnBlock(float* x, int64_t n, float* other) {
  for (int64_t met = 1; met < n; met *= 2) {
    if (n >= 2 * kLanes && kLanes > 1) {
#if HWY_TARGET != HWY_SCALAR
      const Floats df;
      for (int64_t i = 0; i < n / 2; i += kLanes) {
        const auto a = hn::LoadU(df, x + 2 * i), b = hn::LoadU(df, x + 2 * i + kLanes);
        const auto even = hn::ConcatEven(df, b, a), odd = hn::ConcatOdd(df, b, a);
        hn::StoreU(hn::Add(even, odd), df, other + i);
        hn::StoreU(hn::Sub(even, odd), df, other + n / 2 + i);
      }
#endif
    } else {
      for (int64_t i = 0; i < n / 2; ++i) {
        other[i] = x[2 * i] + x[2 * i + 1];
        other[n / 2 + i] = x[2 * i] - x[2 * i + 1];
      }
    }
    std::swap(x, other);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace curdkv
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace curdkv {

HWY_EXPORT(FitEvenly);
HWY_EXPORT(FitGaussian);
HWY_EXPORT(SizeOf);
HWY_EXPORT(TurnBlock);

RowFit fit_evenly(const float* x, int64_t d, float step, float offset, uint8_t* code) {
  return HWY_DYNAMIC_DISPATCH(FitEvenly)(x, d, step, offset, code);
}
RowFit fit_gaussian(const float* x, int64_t d, float scale, uint8_t* code) {
  return HWY_DYNAMIC_DISPATCH(FitGaussian)(x, d, scale, code);
}
RowSize size_of_row(const float* x, int64_t d) {
  return HWY_DYNAMIC_DISPATCH(SizeOf)(x, d);
}

void turn_row(float* x, int64_t d) {
  const int64_t block = d & -d;
  const float scale = 1 / std::sqrt(static_cast<float>(block));
  float other[kMostRowSize];
  int n_turns = 0;
  while (int64_t{1} << n_turns < block) ++n_turns;
  for (int64_t at = 0; at < d; at += block) {
    HWY_DYNAMIC_DISPATCH(TurnBlock)(x + at, block, other);
    const float* turned = n_turns % 2 == 1 ? other : x + at;
    for (int64_t i = 0; i < block; ++i) x[at + i] = turned[i] * scale;
  }
}

}  // namespace curdkv
#endif  // HWY_ONCE
