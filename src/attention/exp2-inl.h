// 2^x for vectors; a Highway header, included once for each instruction set.
#if defined(CURDKV_EXP2_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef CURDKV_EXP2_INL_H
#undef CURDKV_EXP2_INL_H
#else
#define CURDKV_EXP2_INL_H
#endif

#include <hwy/highway.h>

#include <cstddef>
#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace curdkv {
namespace HWY_NAMESPACE {

// 1.5 * 2^23: adding it rounds to a whole number, and leaves that in the low bits, above these.
constexpr float kRounds = 12582912.0f;
constexpr uint32_t kBitsOfRounds = 0x4b400000;

// 2^x for x in [-126, 0] by a polynomial of 2^f for f in [-0.5, 0.5], highest power first.
template <class V, size_t kTerms>
HWY_INLINE V power_of_two_by(V x, const float (&terms)[kTerms]) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::DFromV<V> df;
  const hn::RebindToSigned<decltype(df)> di;
  const auto rounds = hn::Set(df, kRounds);
  const auto shifted = hn::Add(x, rounds);
  const auto f = hn::Sub(x, hn::Sub(shifted, rounds));
  auto y = hn::Set(df, terms[0]);
  for (size_t i = 1; i < kTerms; ++i) y = hn::MulAdd(y, f, hn::Set(df, terms[i]));
  return hn::BitCast(df, hn::Add(hn::BitCast(di, y), hn::ShiftLeft<23>(hn::BitCast(di, shifted))));
}

// 2^x for x in [-126, 0], to 2e-7 of it: Taylor's series of exp(f ln 2).
template <class V>
HWY_INLINE V power_of_two(V x) {
  return power_of_two_by(
      x, {1.5403530e-4f, 1.3333558e-3f, 9.6181291e-3f, 5.5504109e-2f, 2.4022651e-1f, 6.9314718e-1f, 1.0f});
}

// 2^x for x <= 0, to 4e-6 of it, where many are added up: a shorter series, by interpolation; 1e-38 below
// -126.
template <class V>
HWY_INLINE V power_of_two_roughly(V x) {
  const hwy::HWY_NAMESPACE::DFromV<V> df;
  x = hwy::HWY_NAMESPACE::Max(hwy::HWY_NAMESPACE::Set(df, -126.0f), x);
  return power_of_two_by(x, {9.66636852e-3f, 5.59219758e-2f, 2.40223490e-1f, 6.93121045e-1f, 1.0f});
}

// 2^x, and 0 below -126; x <= 0. What is no number stays so, for read_logits() to find: the product adds 0 to
// everything else.
template <class V>
HWY_INLINE V power_of_two_or_zero(V x) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::DFromV<V> df;
  const auto y = hn::MulAdd(x, hn::Zero(df), power_of_two(x));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(df, -126.0f)), y);
}

}  // namespace HWY_NAMESPACE
}  // namespace curdkv
HWY_AFTER_NAMESPACE();

#endif
