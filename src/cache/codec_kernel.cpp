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
  float cross = 0, square = 0;
  RowFit() = default;
  explicit RowFit(const Fit& f) : cross(f.cross.total()), square(f.square.total()) {}
  float scale() const { return square > 0 ? cross / square : 0; }
  // Of the sum of x^2.
  float explained() const { return cross * scale(); }
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

// By each row's two steps.
void fit_two_steps(const float (*inverse)[2], float offset, CodedRows& rows, RowFit (*fits)[2]) {
  const Floats df;
  const auto middle = hn::Set(df, offset);
  const int64_t width = padded_row(rows.d);
  for (int64_t r = 0; r < rows.n; ++r) {
    const auto first = hn::Set(df, inverse[r][0]), second = hn::Set(df, inverse[r][1]);
    const float* x = rows.x + r * width;
    uint8_t *code = rows.code[0] + r * width, *other = rows.code[1] + r * width;
    Fit a, b;
    for (int64_t i = 0; i < width; i += kRowAlign) {
      for (int64_t v = 0; v < kVectors; ++v) {
        const int64_t at = i + v * kLanes;
        const auto value = hn::LoadU(df, x + at);
        fit_evenly(value, rows.d, at, first, middle, &a.cross.lane[v], &a.square.lane[v], code);
        fit_evenly(value, rows.d, at, second, middle, &b.cross.lane[v], &b.square.lane[v], other);
      }
    }
    fits[r][0] = RowFit(a);
    fits[r][1] = RowFit(b);
  }
}

// The better of two steps: the best for a Gaussian, and the largest element's.
void choose_evenly(const float* rms, const float* most, float gauss, float offset, CodedRows& rows) {
  float inverse[kRowsTogether][2];
  RowFit fits[kRowsTogether][2];
  for (int64_t r = 0; r < rows.n; ++r) {
    inverse[r][0] = rms[r] > 0 ? 1 / (rms[r] * gauss) : 0;
    inverse[r][1] = most[r] > 0 ? offset / most[r] : 0;
  }
  fit_two_steps(inverse, offset, rows, fits);
  for (int64_t r = 0; r < rows.n; ++r) {
    rows.better[r] = fits[r][1].explained() >= fits[r][0].explained();
    rows.scale[r] = fits[r][rows.better[r]].scale();
  }
}

// By the levels of q3 with so much per level; rows.scale becomes what fits best.
void fit_gaussian(int to, CodedRows& rows) {
  const Floats df;
  const Ints di;
  const int64_t width = padded_row(rows.d);
  float levels[4];
  for (int j = 0; j < 4; ++j) levels[j] = static_cast<float>(kLevels3[j] - 128);
  for (int64_t r = 0; r < rows.n; ++r) {
    Vec above[4];
    for (int j = 1; j < 4; ++j) above[j] = hn::Set(df, (levels[j - 1] + levels[j]) / 2 * rows.scale[r]);
    Fit fit;
    for (int64_t i = 0; i < width; i += kRowAlign) {
      for (int64_t v = 0; v < kVectors; ++v) {
        const int64_t at = i + v * kLanes;
        const auto value = hn::LoadU(df, rows.x + r * width + at);
        const auto size = hn::Abs(value);
        auto level = hn::Set(df, levels[0]);
        auto n = hn::Zero(di);
        for (int j = 1; j < 4; ++j) {
          const auto is_above = hn::Gt(size, above[j]);
          level = hn::IfThenElse(is_above, hn::Set(df, levels[j]), level);
          n = hn::IfThenElse(hn::RebindMask(di, is_above), hn::Set(di, j), n);
        }
        const auto negative = hn::RebindMask(di, hn::Lt(value, hn::Zero(df)));
        store_codes(hn::Add(n, hn::IfThenElseZero(negative, hn::Set(di, 4))), rows.code[to] + r * width + at);
        level = below(rows.d, at, level);
        fit.cross.lane[v] = hn::MulAdd(size, level, fit.cross.lane[v]);
        fit.square.lane[v] = hn::MulAdd(level, level, fit.square.lane[v]);
      }
    }
    rows.scale[r] = RowFit(fit).scale();
    rows.better[r] = to;
  }
}

// Each row's root mean square and largest element.
void sizes_of(const CodedRows& rows, float* rms, float* most) {
  const Floats df;
  const int64_t width = padded_row(rows.d);
  for (int64_t r = 0; r < rows.n; ++r) {
    Sum squares;
    auto highest = hn::Zero(df);
    for (int64_t i = 0; i < width; i += kRowAlign) {
      for (int64_t v = 0; v < kVectors; ++v) {
        const auto value = hn::LoadU(df, rows.x + r * width + i + v * kLanes);
        squares.lane[v] = hn::MulAdd(value, value, squares.lane[v]);
        highest = hn::Max(highest, hn::Abs(value));
      }
    }
    rms[r] = squares.total();
    most[r] = hn::GetLane(hn::MaxOfLanes(df, highest));
  }
  for (int64_t r = 0; r < rows.n; ++r) rms[r] = std::sqrt(rms[r] / static_cast<float>(rows.d));
}

void ChooseCodes(RowType type, CodedRows& rows) {
  float rms[kRowsTogether], most[kRowsTogether];
  sizes_of(rows, rms, most);
  if (type == RowType::q3) {
    for (int64_t r = 0; r < rows.n; ++r) rows.scale[r] = rms[r] / kOne3;
    for (int i = 0; i < 2; ++i) fit_gaussian(i, rows);
    return;
  }
  const float gauss = type == RowType::q4 ? kGaussStep4 : type == RowType::q5 ? kGaussStep5 : kGaussStep8;
  choose_evenly(rms, most, gauss, row_format(type).offset, rows);
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

void TurnRows(float* x, int64_t n, int64_t d) {
  const int64_t block = d & -d;
  const float scale = 1 / std::sqrt(static_cast<float>(block));
  for (int64_t r = 0; r < n; ++r, x += d) {
    for (int64_t at = 0; at < d; at += block) turn_block(x + at, block);
    for (int64_t i = 0; i < d; ++i) x[i] *= scale;
  }
}

template <ggml_type kType>
HWY_INLINE void sum_rows_of(const char* rows, size_t stride, int64_t n, int64_t d, float* sum) {
  const Floats df;
  const hn::Rebind<hwy::float16_t, Floats> dh;
  constexpr size_t kBytes = kType == GGML_TYPE_F32 ? 4 : 2;
  const auto at = [&](int64_t r, int64_t i) {
    return rows + static_cast<size_t>(r) * stride + static_cast<size_t>(i) * kBytes;
  };
  int64_t i = 0;
  for (; i + kLanes <= d; i += kLanes) {
    auto of_lanes = hn::Zero(df);
    for (int64_t r = 0; r < n; ++r) {
      if constexpr (kType == GGML_TYPE_F32) {
        of_lanes = hn::Add(of_lanes, hn::LoadU(df, reinterpret_cast<const float*>(at(r, i))));
      } else {
        const auto halves = hn::LoadU(dh, reinterpret_cast<const hwy::float16_t*>(at(r, i)));
        of_lanes = hn::Add(of_lanes, hn::PromoteTo(df, halves));
      }
    }
    hn::StoreU(of_lanes, df, sum + i);
  }
  for (; i < d; ++i) {
    sum[i] = 0;
    for (int64_t r = 0; r < n; ++r) {
      if constexpr (kType == GGML_TYPE_F32) {
        sum[i] += *reinterpret_cast<const float*>(at(r, i));
      } else {
        sum[i] += ggml_fp16_to_fp32(*reinterpret_cast<const ggml_fp16_t*>(at(r, i)));
      }
    }
  }
}

void SumRows(ggml_type type, const char* rows, size_t stride, int64_t n, int64_t d, float* sum) {
  if (type == GGML_TYPE_F32) {
    sum_rows_of<GGML_TYPE_F32>(rows, stride, n, d, sum);
  } else {
    sum_rows_of<GGML_TYPE_F16>(rows, stride, n, d, sum);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace curdkv
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace curdkv {

HWY_EXPORT(ChooseCodes);
HWY_EXPORT(TurnRows);
HWY_EXPORT(SumRows);

void choose_codes(RowType type, CodedRows& rows) {
  HWY_DYNAMIC_DISPATCH(ChooseCodes)(type, rows);
}

void turn_rows(float* x, int64_t n, int64_t d) {
  HWY_DYNAMIC_DISPATCH(TurnRows)(x, n, d);
}

void sum_rows(ggml_type type, const char* rows, size_t stride, int64_t n, int64_t d, float* sum) {
  HWY_DYNAMIC_DISPATCH(SumRows)(type, rows, stride, n, d, sum);
}

}  // namespace curdkv
#endif  // HWY_ONCE
