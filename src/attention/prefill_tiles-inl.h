// Blocks of keys that every query of a strip sees, in BF16 by tile registers; a Highway header, included once
// for each instruction set. Keys, queries and values are sums of two BF16 numbers, a high and a low one, of
// which keys and values of an F16 cache are the very sums and queries to 2^-17; but for the product of two
// low ones, scores lose nothing. Weights of a softmax are BF16, and what they are divided by is their sum.
#if defined(CURDKV_PREFILL_TILES_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef CURDKV_PREFILL_TILES_INL_H
#undef CURDKV_PREFILL_TILES_INL_H
#else
#define CURDKV_PREFILL_TILES_INL_H
#endif

#include <hwy/highway.h>

#include <cstdint>

#include "attention/exp2-inl.h"
#include "attention/prefill_strips-inl.h"
#include "compute/bf16_tiles.h"

HWY_BEFORE_NAMESPACE();
namespace curdkv {
namespace HWY_NAMESPACE {

constexpr bool kHasTiles = kStrip == kTileSide;

using Bits = hn::ScalableTag<uint32_t>;
using BitsVec = hn::Vec<Bits>;
using Pair = uint32_t;  // of BF16, the even one in the lower half

// To the nearest BF16, which is the upper half of the bits.
HWY_INLINE BitsVec round_to_bf16(Vec x) {
  const Bits d;
  return hn::And(hn::Add(hn::BitCast(d, x), hn::Set(d, 0x8000)), hn::Set(d, 0xffff0000));
}

HWY_INLINE BitsVec pair_of(BitsVec even, BitsVec odd) {
  return hn::Or(hn::ShiftRight<16>(even), odd);
}

struct HighLow {
  BitsVec high, low;
};
HWY_INLINE HighLow split(Vec x) {
  const BitsVec high = round_to_bf16(x);
  return {high, round_to_bf16(hn::Sub(x, hn::BitCast(Floats(), high)))};
}

// Scratch of a tile's queries and of the block at work, as Bf16Tiles::multiply() takes it.
struct InTiles {
  Pair* q;     // [n_rows / kStrip][high, high, low][d_k / 2][kStrip]
  Pair* k;     // [kKeys / kTileSide][high, low, high][d_k / kTileSide][kTileSide keys][kTileSide / 2]
  Pair* v;     // [d_v / kTileSide][high, low][kKeys / kTileSide][kTileSide dimensions][kTileSide / 2 of keys]
  Pair* p;     // [the same twice][kKeys / 2][kStrip]
  float* sum;  // [kTileSide][kStrip]
};
constexpr int64_t kTilePairs = kTileSide * kTileSide / 2;  // of a step

HWY_INLINE void multiply_pairs(const Bf16Tiles& tiles, const Pair* a, const Pair* b, int64_t n_steps,
                               float* c) {
  tiles.multiply(reinterpret_cast<const ggml_bf16_t*>(a), reinterpret_cast<const ggml_bf16_t*>(b), n_steps, c,
                 kStrip);
}

// A strip of queries [d_k][kStrip].
HWY_INLINE void pack_queries(const float* q, int64_t d_k, Pair* to) {
  const Floats df;
  const int64_t part = d_k / 2 * kStrip;
  for (int64_t i = 0; i < part; i += kLanes) {
    const float* even = q + (i / kStrip * 2) * kStrip + i % kStrip;
    const HighLow x = split(hn::Load(df, even)), y = split(hn::Load(df, even + kStrip));
    const BitsVec high = pair_of(x.high, y.high);
    hn::Store(high, Bits(), to + i);
    hn::Store(high, Bits(), to + part + i);
    hn::Store(pair_of(x.low, y.low), Bits(), to + 2 * part + i);
  }
}

// Keys [kKeys][d_k].
HWY_INLINE void pack_keys(const float* k, int64_t d_k, Pair* to) {
  const Floats df;
  const hn::Rebind<uint16_t, Floats> d16;
  const auto store = [&](BitsVec x, Pair* at, int64_t i) {
    const auto upper = hn::BitCast(Ints(), hn::ShiftRight<16>(x));
    hn::StoreU(hn::DemoteTo(d16, upper), d16, reinterpret_cast<uint16_t*>(at) + i);
  };
  const int64_t part = d_k / kTileSide * kTilePairs;
  for (int64_t i = 0; i < kKeys; ++i, k += d_k) {
    Pair* row = to + i / kTileSide * 3 * part + i % kTileSide * kTileSide / 2;
    for (int64_t d = 0; d < d_k; d += kLanes) {
      const HighLow x = split(hn::LoadU(df, k + d));
      Pair* at = row + d / kTileSide * kTilePairs;
      store(x.high, at, d % kTileSide);
      store(x.low, at + part, d % kTileSide);
      store(x.high, at + 2 * part, d % kTileSide);
    }
  }
}

// Vectors, one for each pair of keys in a step, as columns.
HWY_INLINE void transpose(const BitsVec* rows, Pair* to) {
  constexpr int64_t kN = kTileSide / 2;
  HWY_ALIGN Pair all[kN * kLanes];
  for (int64_t i = 0; i < kN; ++i) hn::Store(rows[i], Bits(), all + i * kLanes);
  for (int64_t j = 0; j < kLanes; ++j) {
    for (int64_t i = 0; i < kN; ++i) to[j * kN + i] = all[i * kLanes + j];
  }
}

// Values [kKeys][d_v].
HWY_INLINE void pack_values(const float* v, int64_t d_v, Pair* to) {
  const Floats df;
  constexpr int64_t kPart = kKeys / kTileSide * kTilePairs;
  for (int64_t step = 0; step < kKeys / kTileSide; ++step, v += kTileSide * d_v) {
    for (int64_t d = 0; d < d_v; d += kLanes) {
      BitsVec high[kTileSide / 2], low[kTileSide / 2];
      for (int64_t i = 0; i < kTileSide / 2; ++i) {
        const float* even = v + 2 * i * d_v + d;
        const HighLow x = split(hn::LoadU(df, even)), y = split(hn::LoadU(df, even + d_v));
        high[i] = pair_of(x.high, y.high);
        low[i] = pair_of(x.low, y.low);
      }
      Pair* at = to + d / kTileSide * 2 * kPart + step * kTilePairs + d % kTileSide * kTileSide / 2;
      transpose(high, at);
      transpose(low, at + kPart);
    }
  }
}

// The block against the strip from row r on. s: scratch [kKeys][kStrip]; max, sum, o: the strip's so far,
// updated.
HWY_INLINE void attend_in_tiles(const Bf16Tiles& tiles, const InTiles& t, int64_t r, int64_t d_k, int64_t d_v,
                                float* s, float* max, float* sum, float* o) {
  const Floats df;
  const int64_t n_steps = 3 * d_k / kTileSide;
  for (int64_t i = 0; i < kKeys; i += kTileSide) {
    multiply_pairs(tiles, t.k + i / kTileSide * n_steps * kTilePairs, t.q + r / kStrip * n_steps * kTilePairs,
                   n_steps, s + i * kStrip);
  }
  constexpr int64_t kPart = kKeys / 2 * kStrip;
  Vec shrink[kVectors];
  for (int64_t j = 0; j < kVectors; ++j) {
    const float* scores = s + j * kLanes;
    const auto before = hn::Load(df, max + j * kLanes);
    auto most = before;
    for (int64_t i = 0; i < kKeys; ++i) most = hn::Max(most, hn::Load(df, scores + i * kStrip));
    const auto weight = [&](int64_t i) {
      return round_to_bf16(power_of_two_roughly(hn::Sub(hn::Load(df, scores + i * kStrip), most)));
    };
    auto total = hn::Zero(df);
    for (int64_t i = 0; i < kKeys; i += 2) {
      const BitsVec even = weight(i), odd = weight(i + 1), both = pair_of(even, odd);
      total = hn::Add(total, hn::Add(hn::BitCast(df, even), hn::BitCast(df, odd)));
      Pair* to = t.p + i / 2 * kStrip + j * kLanes;
      hn::Store(both, Bits(), to);
      hn::Store(both, Bits(), to + kPart);
    }
    shrink[j] = power_of_two_or_zero(hn::Sub(before, most));
    hn::Store(most, df, max + j * kLanes);
    hn::Store(hn::MulAdd(hn::Load(df, sum + j * kLanes), shrink[j], total), df, sum + j * kLanes);
  }
  for (int64_t d = 0; d < d_v; d += kTileSide) {
    multiply_pairs(tiles, t.v + d * 2 * kKeys / 2, t.p, 2 * kKeys / kTileSide, t.sum);
    for (int64_t i = 0; i < kTileSide * kVectors; ++i) {
      float* to = o + d * kStrip + i * kLanes;
      hn::Store(hn::MulAdd(hn::Load(df, to), shrink[i % kVectors], hn::Load(df, t.sum + i * kLanes)), df, to);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace curdkv
HWY_AFTER_NAMESPACE();

#endif
