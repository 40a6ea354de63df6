// A block of packed rows (cache/packed_rows.h) in whole numbers: products with a few queries, and mixes of
// rows by weights. Queries and weights are 16-bit numbers in two bytes each, so that what is lost is what the
// rows' codes lost; sums are exact, whatever the instruction set. Included once for each of them.
#if defined(CURDKV_ATTENTION_PACKED_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CURDKV_ATTENTION_PACKED_ROWS_INL_H_
#undef CURDKV_ATTENTION_PACKED_ROWS_INL_H_
#else
#define CURDKV_ATTENTION_PACKED_ROWS_INL_H_
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "attention/packed_kernel.h"
#include "attention/rows-inl.h"
#include "attention/whole_numbers-inl.h"

HWY_BEFORE_NAMESPACE();
namespace curdkv {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using IntVec = hn::Vec<Ints>;

constexpr int64_t kBytesOfFour = kMostQueries * 8;  // of the queries' bytes of four elements

// Query i's bytes of the first four elements.
HWY_INLINE int8_t* query_bytes(const PackedQueries& q, int64_t i) {
  return q.bytes + i / kMostQueries * (q.width / 4) * kBytesOfFour + i % kMostQueries * 8;
}

// What a kernel asks memory for while it works: step by step, so that requests do not queue.
struct AskAhead {
  const char* from = nullptr;
  int64_t n_bytes = 0;
  HWY_INLINE void step(int64_t i, int64_t n_steps) const {
    const int64_t end = n_bytes * (i + 1) / n_steps;
    for (int64_t at = n_bytes * i / n_steps; at < end; at += 64) hwy::Prefetch(from + at);
  }
};

#if HWY_TARGET == HWY_SCALAR

// Slow, and for nobody: any processor in use has vectors of bytes.
struct AnyCodes {};
using Codes8 = AnyCodes;
using Codes5 = AnyCodes;
using Codes4 = AnyCodes;
using Codes3 = AnyCodes;

template <typename Codes, int kQ, bool kCoarse>
HWY_INLINE void dot_packed(const PackedQueries& q, int64_t first_q, const PackedRows& k, int64_t first,
                           int64_t n, float* scores, const AskAhead&) {
  const RowFormat& f = row_format(k.type);
  for (int64_t i = 0; i < kQ; ++i) {
    const int64_t j = first_q + i;
    for (int64_t r = 0; r < n; ++r) {
      int64_t sum = 0;
      for (int64_t d = 0; d < q.width; ++d) {
        const int8_t* four = query_bytes(q, j) + d / 4 * kBytesOfFour + d % 4;
        sum += key_level(k, first + r, d) * (kCoarse ? four[0] : 256 * four[0] + four[4]);
      }
      const float scale = key_scale(k, first + r) * f.unit * q.scale[j];
      scores[i * kBlockRows + r] = (static_cast<float>(sum) - f.offset * q.sum[j]) * scale + q.of_mean[j];
    }
  }
}

template <typename Codes, int kQ>
HWY_INLINE void mix_packed(const PackedWeights& w, const PackedRows& v, int64_t first, float* out,
                           size_t out_stride, const AskAhead&) {
  const RowFormat& f = row_format(v.type);
  const int64_t n = std::min(kValueBlock, v.n - first);
  for (int64_t i = 0; i < kQ; ++i) {
    for (int64_t d = 0; d < padded_row(v.d); ++d) {
      int64_t sum = 0;
      for (int64_t r = 0; r < n; ++r)
        sum +=
            value_level(v, first + r, d) * (256 * w.high[i * kValueBlock + r] + w.low[i * kValueBlock + r]);
      out[static_cast<size_t>(i) * out_stride + static_cast<size_t>(d)] =
          (static_cast<float>(sum) - f.offset * w.sum[i]) * w.scale[i] * f.unit;
    }
  }
}

#else

using Bytes = hn::Repartition<uint8_t, Floats>;
using ByteVec = hn::Vec<Bytes>;

// sum += the four bytes of each lane times the same four signed bytes.
HWY_INLINE IntVec add_products(IntVec sum, ByteVec bytes, const int8_t* four) {
  const Ints di;
#if HWY_TARGET <= HWY_AVX3_DL && HWY_ARCH_X86
  using Four = const int32_t __attribute__((may_alias));
  // Written out, as Highway's list of features for this target lacks the one of this instruction.
  asm("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum.raw) : "v"(bytes.raw), "m"(*reinterpret_cast<Four*>(four)));
  return sum;
#elif HWY_ARCH_X86 && HWY_TARGET != HWY_EMU128
  // Pairs of 16-bit products: the even bytes', then the odd ones'.
  const hn::Repartition<int16_t, Ints> d16;
  const hn::Repartition<uint16_t, Ints> du16;
  const auto pair = [&](int a, int b) {
    return hn::BitCast(d16,
                       hn::Set(di, static_cast<int32_t>((a & 0xffff) | (static_cast<uint32_t>(b) << 16))));
  };
  const auto words = hn::BitCast(du16, bytes);
  const auto even = hn::BitCast(d16, hn::And(words, hn::Set(du16, 0xff)));
  const auto odd = hn::BitCast(d16, hn::ShiftRight<8>(words));
  auto unused = hn::Zero(di);
  sum = hn::ReorderWidenMulAccumulate(di, even, pair(four[0], four[2]), sum, unused);
  return hn::ReorderWidenMulAccumulate(di, odd, pair(four[1], four[3]), sum, unused);
#else
  const auto words = hn::BitCast(di, bytes);
  const auto byte = hn::Set(di, 0xff);
  sum = hn::Add(sum, hn::Mul(hn::And(words, byte), hn::Set(di, four[0])));
  sum = hn::Add(sum, hn::Mul(hn::And(hn::ShiftRight<8>(words), byte), hn::Set(di, four[1])));
  sum = hn::Add(sum, hn::Mul(hn::And(hn::ShiftRight<16>(words), byte), hn::Set(di, four[2])));
  return hn::Add(sum, hn::Mul(hn::And(hn::ShiftRight<24>(words), byte), hn::Set(di, four[3])));
#endif
}

// kBits wide fields of bytes: the p-th.
template <int kBits, int kField>
HWY_INLINE ByteVec field(ByteVec bytes) {
  if constexpr (kBits == 8) {
    return bytes;
  } else {
    const hn::Repartition<uint16_t, Bytes> d16;
    const auto shifted = hn::BitCast(Bytes(), hn::ShiftRight<kBits * kField>(hn::BitCast(d16, bytes)));
    return hn::And(shifted, hn::Set(Bytes(), (1 << kBits) - 1));
  }
}

// Bits of memory, one for each byte of a vector, as 0 or `bit` in it.
HWY_INLINE ByteVec spread(const char* bits, uint8_t bit) {
  const Bytes d;
  return hn::IfThenElseZero(hn::LoadMaskBits(d, reinterpret_cast<const uint8_t*>(bits)), hn::Set(d, bit));
}

struct Codes8 {
  static constexpr int kBits = 8;
  static constexpr bool kExtra = false;
  static HWY_INLINE ByteVec levels(ByteVec low, const char*) { return low; }
};
struct Codes5 {
  static constexpr int kBits = 4;
  static constexpr bool kExtra = true;
  static HWY_INLINE ByteVec levels(ByteVec low, const char* bits) { return hn::Or(low, spread(bits, 16)); }
};
struct Codes4 {
  static constexpr int kBits = 4;
  static constexpr bool kExtra = false;
  static HWY_INLINE ByteVec levels(ByteVec low, const char*) { return low; }
};
struct Codes3 {
  static constexpr int kBits = 2;
  static constexpr bool kExtra = true;
  static HWY_INLINE ByteVec levels(ByteVec low, const char* bits) {
    alignas(16) static constexpr uint8_t kTable[16] = {kLevels3[0], kLevels3[1], kLevels3[2], kLevels3[3],
                                                       kLevels3[4], kLevels3[5], kLevels3[6], kLevels3[7]};
    return hn::TableLookupBytes(hn::LoadDup128(Bytes(), kTable), hn::Or(low, spread(bits, 4)));
  }
};

HWY_INLINE Vec whole(IntVec high, IntVec low) {
  const Floats df;
  return hn::MulAdd(hn::ConvertTo(df, high), hn::Set(df, 256.0f), hn::ConvertTo(df, low));
}

// The sums += products of a unit's fields, from kField on, with the bytes of kQ queries or weights, kStep
// bytes from one to the next, kLow from high to low ones, kNext from one field to the next. `bits`: the
// field's extra bits, `step` bytes before the next one's.
template <typename Codes, int kQ, bool kCoarse, int64_t kStep, int64_t kLow, int64_t kNext, int kField = 0>
HWY_INLINE void add_unit(ByteVec unit, const char* bits, int64_t step, const int8_t* high, IntVec* sum_high,
                         IntVec* sum_low) {
  const ByteVec levels = Codes::levels(field<Codes::kBits, kField>(unit), bits);
  for (int i = 0; i < kQ; ++i) {
    sum_high[i] = add_products(sum_high[i], levels, high + i * kStep);
    if (!kCoarse) sum_low[i] = add_products(sum_low[i], levels, high + i * kStep + kLow);
  }
  if constexpr ((kField + 1) * Codes::kBits < 8) {
    add_unit<Codes, kQ, kCoarse, kStep, kLow, kNext, kField + 1>(unit, bits + step, step, high + kNext,
                                                                 sum_high, sum_low);
  }
}

// kCoarse: queries have a high byte alone. scores[i][r] = query i . row r for rows [first, first + n) of k,
// first a multiple of kKeyGroup.
template <typename Codes, int kQ, bool kCoarse>
HWY_INLINE void dot_packed(const PackedQueries& q, int64_t first_q, const PackedRows& k, int64_t first,
                           int64_t n, float* scores, const AskAhead& ahead) {
  const Floats df;
  const RowFormat& f = row_format(k.type);
  constexpr int64_t kPerUnit = 8 / Codes::kBits;
  const int64_t width = q.width, n_units = width / (4 * kPerUnit);
  const int8_t* bytes_of = query_bytes(q, first_q);
  for (int64_t at = 0; at < n; at += kKeyGroup) {
    const PackedPiece p = key_group(k, first + at);
    ahead.step(at / kKeyGroup, kBlockRows / kKeyGroup);
    for (int64_t r = 0; r < p.m; r += kLanes) {
      IntVec sum_high[kQ], sum_low[kQ];
      for (int i = 0; i < kQ; ++i) sum_high[i] = sum_low[i] = hn::Zero(Ints());
      const char *unit = k.data + p.plane + 4 * r, *bits = k.data + p.extra + r / 2;
      for (int64_t u = 0; u < n_units; ++u) {
        const auto bytes = hn::LoadU(Bytes(), reinterpret_cast<const uint8_t*>(unit));
        add_unit<Codes, kQ, kCoarse, 8, 4, kBytesOfFour>(
            bytes, bits, p.m / 2, bytes_of + u * kPerUnit * kBytesOfFour, sum_high, sum_low);
        unit += 4 * p.m;
        if (Codes::kExtra) bits += kPerUnit * p.m / 2;
      }
      const auto scale = hn::Mul(load_halves(k.data + p.scales + 2 * r), hn::Set(df, f.unit));
      for (int i = 0; i < kQ; ++i) {
        const int64_t j = first_q + i;
        const auto products = kCoarse ? hn::ConvertTo(df, sum_high[i]) : whole(sum_high[i], sum_low[i]);
        const auto sum = hn::Sub(products, hn::Set(df, f.offset * q.sum[j]));
        const auto score =
            hn::MulAdd(sum, hn::Mul(scale, hn::Set(df, q.scale[j])), hn::Set(df, q.of_mean[j]));
        hn::StoreU(score, df, scores + i * kBlockRows + at + r);
      }
    }
  }
}

// out[i][...] = sum over r of weight i of row r times the row, of the block of values from `first` on.
template <typename Codes, int kQ>
HWY_INLINE void mix_packed(const PackedWeights& w, const PackedRows& v, int64_t first, float* out,
                           size_t out_stride, const AskAhead& ahead) {
  const Floats df;
  const RowFormat& f = row_format(v.type);
  constexpr int64_t kPerUnit = 8 / Codes::kBits;
  const PackedPiece p = value_block(v, first);
  const int64_t width = padded_row(v.d), n_units = p.m / (4 * kPerUnit);
  for (int64_t c = 0; c < width; c += 16) {
    ahead.step(c / 16, width / 16);
    for (int64_t lane = 0; lane < 16; lane += kLanes) {
      IntVec sum_high[kQ], sum_low[kQ];
      for (int i = 0; i < kQ; ++i) sum_high[i] = sum_low[i] = hn::Zero(Ints());
      const char* unit = v.data + p.plane + c / 16 * n_units * 64 + 4 * lane;
      const char* bits = v.data + p.extra + c / 16 * (p.m / 4) * 8 + lane / 2;
      for (int64_t u = 0; u < n_units; ++u) {
        const auto bytes = hn::LoadU(Bytes(), reinterpret_cast<const uint8_t*>(unit + u * 64));
        add_unit<Codes, kQ, false, kValueBlock, kMostQueries * kValueBlock, 4>(
            bytes, bits + u * kPerUnit * 8, 8, w.high + u * 4 * kPerUnit, sum_high, sum_low);
      }
      for (int i = 0; i < kQ; ++i) {
        const auto sum = hn::Sub(whole(sum_high[i], sum_low[i]), hn::Set(df, f.offset * w.sum[i]));
        const auto x = hn::Mul(sum, hn::Set(df, w.scale[i] * f.unit));
        hn::StoreU(x, df, out + static_cast<size_t>(i) * out_stride + c + lane);
      }
    }
  }
}

#endif

// Calls f with the codes of a type, not f16.
template <typename F>
HWY_INLINE void with_codes(RowType type, const F& f) {
  switch (type) {
    case RowType::q8:
      return f(Codes8());
    case RowType::q5:
      return f(Codes5());
    case RowType::q4:
      return f(Codes4());
    default:
      return f(Codes3());
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace curdkv
HWY_AFTER_NAMESPACE();

#endif
