#include "cache/codec_kernel.h"

#include <algorithm>
#include <cmath>

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

// Of a Gaussian with variance 1, the step of evenly spaced levels that is best (Max 1960, table 2).
constexpr float kGaussStep8 = 0.0308f, kGaussStep5 = 0.1881f, kGaussStep4 = 0.3352f;
constexpr float kOne3 = 53;  // what 1 is among q3's levels

// A sum over elements in 16 lanes, however long vectors are, added up in one order.
struct Sum {
  Vec lane[kVectors];
  Sum() {
    for (Vec& x : lane) x = hn::Zero(Floats());
  }
  HWY_INLINE float total() const {
    alignas(64) float all[kRowAlign];
    for (int64_t v = 0; v < kVectors; ++v) hn::Store(lane[v], Floats(), all + v * kLanes);
#if HWY_TARGET == HWY_SCALAR
    for (int64_t half = kRowAlign / 2; half > 0; half /= 2) {
      for (int64_t i = 0; i < half; ++i) all[i] += all[i + half];
    }
    return all[0];
#else
    const hn::CappedTag<float, 4> d4;
    const auto low = hn::Add(hn::Load(d4, all), hn::Load(d4, all + 8));
    auto sum = hn::Add(low, hn::Add(hn::Load(d4, all + 4), hn::Load(d4, all + 12)));
    sum = hn::Add(sum, hn::Shuffle1032(sum));
    return hn::GetLane(hn::Add(sum, hn::Reverse2(d4, sum)));
#endif
  }
};

// How x goes with levels chosen for it: sums of x level and of level^2.
struct Fit {
  Sum cross, square;
};
struct RowFit {
  float cross, square;
  explicit RowFit(const Fit& f) : cross(f.cross.total()), square(f.square.total()) {}
  double scale() const { return square > 0 ? static_cast<double>(cross) / static_cast<double>(square) : 0; }
  // Of the sum of x^2.
  double explained() const { return static_cast<double>(cross) * scale(); }
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

// Codes for evenly spaced levels, 1 / inverse apart, of which code c is c - offset.
HWY_INLINE void fit_evenly(Vec value, int64_t d, int64_t at, Vec inverse, Vec offset, Vec* cross, Vec* square,
                           uint8_t* code) {
  const Floats df;
  const auto place = hn::Add(hn::Add(hn::Mul(value, inverse), offset), hn::Set(df, 0.5f));
  // Of no number 0.
  const auto in = hn::IfThenElseZero(hn::Gt(place, hn::Zero(df)), hn::Min(place, hn::Add(offset, offset)));
  const auto below_it = hn::ConvertTo(Ints(), in);
  store_codes(below_it, code + at);
  const auto level = below(d, at, hn::Sub(hn::ConvertTo(df, below_it), offset));
  *cross = hn::MulAdd(value, level, *cross);
  *square = hn::MulAdd(level, level, *square);
}

// The better of two steps: of the best for a Gaussian, and of the largest element's.
double choose_evenly(const float* x, int64_t d, float by_rms, float by_most, float offset, uint8_t* code) {
  const Floats df;
  uint8_t other[kMostRowSize];
  const auto inverse = [&](float step) { return hn::Set(df, step > 0 ? 1 / step : 0); };
  const auto rms = inverse(by_rms), most = inverse(by_most), middle = hn::Set(df, offset);
  Fit a, b;
  for (int64_t i = 0; i < d; i += kRowAlign) {
    for (int64_t v = 0; v < kVectors; ++v) {
      const int64_t at = i + v * kLanes;
      const auto value = hn::LoadU(df, x + at);
      fit_evenly(value, d, at, rms, middle, &a.cross.lane[v], &a.square.lane[v], code);
      fit_evenly(value, d, at, most, middle, &b.cross.lane[v], &b.square.lane[v], other);
    }
  }
  const RowFit of_rms(a), of_most(b);
  if (of_most.explained() < of_rms.explained()) return of_rms.scale();
  std::copy_n(other, padded_row(d), code);
  return of_most.scale();
}

// Codes for the levels of q3 with so much per level.
double choose_gaussian(const float* x, int64_t d, float scale, uint8_t* code) {
  const Floats df;
  const Ints di;
  float levels[4];
  for (int j = 0; j < 4; ++j) levels[j] = static_cast<float>(kLevels3[j] - 128);
  Fit fit;
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
      fit.cross.lane[v] = hn::MulAdd(size, level, fit.cross.lane[v]);
      fit.square.lane[v] = hn::MulAdd(level, level, fit.square.lane[v]);
    }
  }
  return RowFit(fit).scale();
}

double ChooseCodes(RowType type, const float* x, int64_t d, uint8_t* code) {
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
  const float rms = std::sqrt(squares.total() / static_cast<float>(d));
  if (type == RowType::q3) {
    const double first = choose_gaussian(x, d, rms / kOne3, code);
    return choose_gaussian(x, d, static_cast<float>(first), code);
  }
  const float offset = row_format(type).offset;
  const float gauss = type == RowType::q4 ? kGaussStep4 : type == RowType::q5 ? kGaussStep5 : kGaussStep8;
  return choose_evenly(x, d, rms * gauss, hn::GetLane(hn::MaxOfLanes(df, most)) / offset, offset, code);
}

#if HWY_TARGET != HWY_SCALAR
// The lanes kApart away, and of these and x the sums, in the lower lanes, and differences.
template <int kApart>
HWY_INLINE Vec meet(Vec x) {
  const Floats df;
  const Ints di;
  Vec other;
  if constexpr (kApart == 1) {
    other = hn::Reverse2(df, x);
  } else if constexpr (kApart == 2) {
    other = hn::Shuffle1032(x);
#if HWY_CAP_GE256
  } else if constexpr (2 * kApart == kLanes) {
    other = hn::ConcatLowerUpper(df, x, x);
#if HWY_CAP_GE512
  } else {
    other = hn::SwapAdjacentBlocks(x);
#endif
#endif
  }
  const auto upper = hn::TestBit(hn::Iota(di, 0), hn::Set(di, kApart));
  const auto sign = hn::BitCast(df, hn::VecFromMask(di, upper));
  return hn::Add(other, hn::Xor(x, hn::And(sign, hn::SignBit(df))));
}
#endif

// Sums and differences of elements 1, 2, 4, ... apart: in the end every element has met every other.
HWY_INLINE void turn_block(float* x, int64_t n) {
  int64_t apart = 1;
#if HWY_TARGET != HWY_SCALAR
  const Floats df;
  if (n >= kLanes) {
    for (int64_t i = 0; i < n; i += kLanes) {
      auto v = meet<2>(meet<1>(hn::LoadU(df, x + i)));
      if constexpr (kLanes >= 8) v = meet<4>(v);
      if constexpr (kLanes >= 16) v = meet<8>(v);
      hn::StoreU(v, df, x + i);
    }
    for (apart = kLanes; apart < n; apart *= 2) {
      for (int64_t at = 0; at < n; at += 2 * apart) {
        for (int64_t i = at; i < at + apart; i += kLanes) {
          const auto a = hn::LoadU(df, x + i), b = hn::LoadU(df, x + i + apart);
          hn::StoreU(hn::Add(a, b), df, x + i);
          hn::StoreU(hn::Sub(a, b), df, x + i + apart);
        }
      }
    }
  }
#endif
  for (; apart < n; apart *= 2) {
    for (int64_t i = 0; i < n; ++i) {
      if (i & apart) continue;
      const float a = x[i], b = x[i + apart];
      x[i] = a + b;
      x[i + apart] = a - b;
    }
  }
}

void TurnRow(float* x, int64_t d) {
  const int64_t block = d & -d;
  const float scale = 1 / std::sqrt(static_cast<float>(block));
  for (int64_t at = 0; at < d; at += block) turn_block(x + at, block);
  for (int64_t i = 0; i < d; ++i) x[i] *= scale;
}

}  // namespace HWY_NAMESPACE
}  // namespace curdkv
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace curdkv {

HWY_EXPORT(ChooseCodes);
HWY_EXPORT(TurnRow);

double choose_codes(RowType type, const float* x, int64_t d, uint8_t* code) {
  return HWY_DYNAMIC_DISPATCH(ChooseCodes)(type, x, d, code);
}

void turn_row(float* x, int64_t d) {
  HWY_DYNAMIC_DISPATCH(TurnRow)(x, d);
}

}  // namespace curdkv
#endif  // HWY_ONCE
