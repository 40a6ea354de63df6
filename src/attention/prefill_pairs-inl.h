// Blocks of keys that every query of a strip sees, in 16-bit integers whose products are added up exactly; a
// Highway header, included once for each instruction set. Queries and keys have a scale each, values one for
// each dimension of a block, weights of a softmax are relative to the block's highest. Scales follow from
// norms: no sum of products can then leave int32 (Cauchy-Schwarz), and of 64 dimensions a step is 1/5,700 of
// an element's root mean square, where F16's is 1/1,024 to 1/2,048 of each element and BF16's 1/128.
#if defined(CURDKV_PREFILL_PAIRS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef CURDKV_PREFILL_PAIRS_INL_H
#undef CURDKV_PREFILL_PAIRS_INL_H
#else
#define CURDKV_PREFILL_PAIRS_INL_H
#endif

#include <hwy/highway.h>

#include <cmath>
#include <cstdint>
#include <limits>

#include "attention/exp2-inl.h"
#include "attention/prefill_strips-inl.h"

HWY_BEFORE_NAMESPACE();
namespace curdkv {
namespace HWY_NAMESPACE {

// Largest norms in steps: of queries and keys, of weights, and of a dimension of the values. Products of the
// first with itself and of the other two stay below 2^31, with room for what rounding adds.
constexpr float kNormQK = 46000;
constexpr float kMostWeight = 16383;
constexpr float kNormV = 11500;
static_assert(kNormQK * kNormQK < 0.99f * 2147483648.0f);
static_assert(kMostWeight * kMostWeight * kKeys * kNormV * kNormV < 0.99f * 2147483648.0f * 2147483648.0f);

// What a step is worth, so that elements fit int16 and their norm, the root of `squares`, is at most `norm`.
HWY_INLINE Vec step_for(Vec most, Vec squares, float norm) {
  const Floats df;
  return hn::Max(hn::Mul(most, hn::Set(df, 1 / 32767.0f)), hn::Mul(hn::Sqrt(squares), hn::Set(df, 1 / norm)));
}

// Pairs of whole numbers within int16: two rows' as pairs of one.
HWY_INLINE IntVec pair_up(IntVec low, IntVec high) {
  return hn::Or(hn::And(low, hn::Set(Ints(), 0xffff)), hn::ShiftLeft<16>(high));
}

// 1 / x, and 0 where x is.
HWY_INLINE Vec inverse_or_zero(Vec x) {
  const Floats df;
  return hn::IfThenElseZero(hn::Gt(x, hn::Zero(df)), hn::Div(hn::Set(df, 1.0f), x));
}

// rows [2 n][width] F32 -> pairs [n][width] of rows 2 i and 2 i + 1, scale [width]: what a step is worth.
HWY_INLINE void pack_columns(const float* rows, int64_t n, int64_t width, float norm, int32_t* pairs,
                             float* scale) {
  const Floats df;
  for (int64_t c = 0; c < width; c += kLanes) {
    auto most = hn::Zero(df), squares = hn::Zero(df);
    for (int64_t i = 0; i < 2 * n; ++i) {
      const auto x = hn::LoadU(df, rows + i * width + c);
      most = hn::Max(most, hn::Abs(x));
      squares = hn::MulAdd(x, x, squares);
    }
    const auto step = step_for(most, squares, norm);
    const auto inverse = inverse_or_zero(step);
    hn::StoreU(step, df, scale + c);
    const auto whole = [&](int64_t i) {
      return hn::NearestInt(hn::Mul(hn::LoadU(df, rows + i * width + c), inverse));
    };
    for (int64_t i = 0; i < n; ++i) {
      hn::StoreU(pair_up(whole(2 * i), whole(2 * i + 1)), Ints(), pairs + i * width + c);
    }
  }
}

// rows [n][d] F32 -> pairs [n][d / 2] of neighbours, scale [n].
HWY_INLINE void pack_rows(const float* rows, int64_t n, int64_t d, float norm, int32_t* pairs, float* scale) {
  const Floats df;
  const hn::Rebind<int16_t, Floats> d16;
  for (int64_t i = 0; i < n; ++i, rows += d, pairs += d / 2) {
    auto most = hn::Zero(df), squares = hn::Zero(df);
    for (int64_t c = 0; c < d; c += kLanes) {
      const auto x = hn::LoadU(df, rows + c);
      most = hn::Max(most, hn::Abs(x));
      squares = hn::MulAdd(x, x, squares);
    }
    // step_for() and inverse_or_zero() of one number: a whole vector's root and quotient take long.
    const float by_most = hn::GetLane(hn::MaxOfLanes(df, most)) * (1 / 32767.0f);
    const float by_norm = std::sqrt(hn::GetLane(hn::SumOfLanes(df, squares))) * (1 / norm);
    scale[i] = by_most > by_norm ? by_most : by_norm;
    const auto inverse = hn::Set(df, scale[i] > 0 ? 1 / scale[i] : 0.0f);
    auto* to = reinterpret_cast<int16_t*>(pairs);
    for (int64_t c = 0; c < d; c += kLanes) {
      hn::StoreU(hn::DemoteTo(d16, hn::NearestInt(hn::Mul(hn::LoadU(df, rows + c), inverse))), d16, to + c);
    }
  }
}

// Scratch of a tile's queries and of the block at work.
struct Pairs {
  int32_t* q;      // [n_rows / kStrip][d_k / 2][kStrip]
  float* q_scale;  // [n_rows]
  int32_t* k;      // [kKeys][d_k / 2]
  float* k_scale;  // [kKeys]
  int32_t* v;      // [kKeys / 2][d_v]
  float* v_scale;  // [d_v]
  int32_t* p;      // [kKeys / 2][kStrip]
};

// The block against the strip from row r on. s: scratch [kKeys][kStrip]; max, sum, o: the strip's so far,
// updated.
HWY_INLINE void attend_pairs(const Pairs& t, int64_t r, int64_t d_k, int64_t d_v, float* s, float* max,
                             float* sum, float* o) {
  const Floats df;
  Vec most[kVectors], shrink[kVectors], grow[kVectors];
  for (auto& m : most) m = hn::Set(df, std::numeric_limits<float>::lowest());
  for (int64_t i = 0; i < kKeys; i += kRows) {
    multiply_rows(t.k + i * d_k / 2, static_cast<size_t>(d_k / 2), 1, t.q + r * d_k / 2, d_k / 2,
                  [&](int64_t row, int64_t j, IntVec x) {
                    const auto y = hn::Mul(hn::ConvertTo(df, x), hn::Set(df, t.k_scale[i + row]));
                    hn::Store(y, df, s + (i + row) * kStrip + j * kLanes);
                    most[j] = hn::Max(most[j], y);
                  });
  }
  for (int64_t j = 0; j < kVectors; ++j) {
    const auto scale = hn::Load(df, t.q_scale + r + j * kLanes);
    const auto highest = hn::Mul(most[j], scale);
    const auto before = hn::Load(df, max + j * kLanes), after = hn::Max(before, highest);
    shrink[j] = power_of_two_or_zero(hn::Sub(before, after));
    grow[j] = hn::Mul(power_of_two_or_zero(hn::Sub(highest, after)), hn::Set(df, 1 / kMostWeight));
    const auto offset = hn::Sub(hn::Set(df, std::log2(kMostWeight)), highest);
    // In the low bits the nearest whole number. What rounds to 0 anyway stays where power_of_two() is good.
    const auto weight = [&](int64_t i) {
      const auto x = hn::MulAdd(hn::Load(df, s + i * kStrip + j * kLanes), scale, offset);
      const auto power = power_of_two(hn::Max(x, hn::Set(df, -16.0f)));
      return hn::BitCast(Ints(), hn::Add(power, hn::Set(df, kRounds)));
    };
    auto total = hn::Set(Ints(), static_cast<int32_t>(-(kBitsOfRounds * static_cast<uint32_t>(kKeys))));
    for (int64_t i = 0; i < kKeys; i += 2) {
      const auto low = weight(i), high = weight(i + 1);
      total = hn::Add(total, hn::Add(low, high));
      hn::Store(pair_up(low, high), Ints(), t.p + i / 2 * kStrip + j * kLanes);
    }
    const auto so_far = hn::Mul(hn::Load(df, sum + j * kLanes), shrink[j]);
    hn::Store(hn::MulAdd(hn::ConvertTo(df, total), grow[j], so_far), df, sum + j * kLanes);
    hn::Store(after, df, max + j * kLanes);
  }
  for (int64_t d = 0; d < d_v; d += kRows) {
    multiply_rows(t.v + d, 1, static_cast<size_t>(d_v), t.p, kKeys / 2,
                  [&](int64_t row, int64_t j, IntVec x) {
                    float* to = o + (d + row) * kStrip + j * kLanes;
                    const auto so_far = hn::Mul(hn::Load(df, to), shrink[j]);
                    const auto scale = hn::Mul(grow[j], hn::Set(df, t.v_scale[d + row]));
                    hn::Store(hn::MulAdd(hn::ConvertTo(df, x), scale, so_far), df, to);
                  });
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace curdkv
HWY_AFTER_NAMESPACE();

#endif
