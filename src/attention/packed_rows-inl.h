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
#include <utility>

#include "attention/byte_products-inl.h"
#include "attention/packed_kernel.h"
#include "attention/rows-inl.h"
#include "attention/whole_numbers-inl.h"

HWY_BEFORE_NAMESPACE();
namespace curdkv {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

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

template <typename Products, typename Codes, int kQ, bool kCoarse>
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

template <typename Products, typename Codes, int kQ>
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

// levels<kLess>(): those above 127 less kLess, 128 or 0, if a type has such.
struct Codes8 {
  static constexpr int kBits = 8;
  static constexpr bool kExtra = false, kAbove127 = true;
  template <uint8_t kLess>
  static HWY_INLINE ByteVec levels(ByteVec low, const char*) {
    return kLess == 0 ? low : hn::Xor(low, hn::Set(Bytes(), kLess));
  }
};
struct Codes5 {
  static constexpr int kBits = 4;
  static constexpr bool kExtra = true, kAbove127 = false;
  template <uint8_t>
  static HWY_INLINE ByteVec levels(ByteVec low, const char* bits) {
    return hn::Or(low, spread(bits, 16));
  }
};
struct Codes4 {
  static constexpr int kBits = 4;
  static constexpr bool kExtra = false, kAbove127 = false;
  template <uint8_t>
  static HWY_INLINE ByteVec levels(ByteVec low, const char*) {
    return low;
  }
};
struct Codes3 {
  static constexpr int kBits = 2;
  static constexpr bool kExtra = true, kAbove127 = true;
  template <uint8_t kLess>
  static HWY_INLINE ByteVec levels(ByteVec low, const char* bits) {
    alignas(16) static constexpr uint8_t kTable[16] = {
        uint8_t(kLevels3[0] - kLess), uint8_t(kLevels3[1] - kLess), uint8_t(kLevels3[2] - kLess),
        uint8_t(kLevels3[3] - kLess), uint8_t(kLevels3[4] - kLess), uint8_t(kLevels3[5] - kLess),
        uint8_t(kLevels3[6] - kLess), uint8_t(kLevels3[7] - kLess)};
    return hn::TableLookupBytes(hn::LoadDup128(Bytes(), kTable), hn::Or(low, spread(bits, 4)));
  }
};

HWY_INLINE Vec whole(IntVec high, IntVec low) {
  const Floats df;
  return hn::MulAdd(hn::ConvertTo(df, high), hn::Set(df, 256.0f), hn::ConvertTo(df, low));
}

// Where bytes of queries and weights lie: kNext from one field's to the next one's, kStep from one query's to
// the next one's, kLow from high to low ones; see Products' kRun.
struct QueryBytes {
  static constexpr int kNext = kBytesOfFour, kStep = 8, kLow = 4, kRun = 16;
};
template <typename Codes>
struct WeightBytes {
  static constexpr int kNext = 4, kStep = kValueBlock, kLow = kMostQueries * kValueBlock,
                       kRun = 4 * 8 / Codes::kBits;
};

// The sums += products of levels with the bytes of one query or weight.
template <typename Products, typename Place, int kAt, bool kCoarse>
HWY_INLINE void add_levels(ByteVec levels, const int8_t* bytes, typename Products::Sum& high,
                           typename Products::Sum& low) {
  high = Products::template add<kAt, Place::kRun>(high, levels, bytes);
  if (!kCoarse) low = Products::template add<kAt + Place::kLow, Place::kRun>(low, levels, bytes);
}

// What is taken from levels to make them signed. Sums then begin with as many times the sums of what these
// are multiplied by.
template <typename Products, typename Codes>
constexpr uint8_t taken_from_levels() {
  return Products::kSigned && Codes::kAbove127 ? 128 : 0;
}

// The sums of queries or weights i... += products of a unit's fields, from kField on. `bits`: the field's
// extra bits, `step` bytes before the next one's.
template <typename Products, typename Codes, typename Place, bool kCoarse, int kField = 0, int... i>
HWY_INLINE void add_unit(std::integer_sequence<int, i...> all, ByteVec unit, const char* bits, int64_t step,
                         const int8_t* bytes, typename Products::Sum* high, typename Products::Sum* low) {
  constexpr uint8_t kLess = taken_from_levels<Products, Codes>();
  const ByteVec levels = Codes::template levels<kLess>(field<Codes::kBits, kField>(unit), bits);
  (add_levels<Products, Place, kField * Place::kNext + i * Place::kStep, kCoarse>(levels, bytes, high[i],
                                                                                  low[i]),
   ...);
  if constexpr ((kField + 1) * Codes::kBits < 8)
    add_unit<Products, Codes, Place, kCoarse, kField + 1>(all, unit, bits + step, step, bytes, high, low);
}

// kCoarse: queries have a high byte alone. scores[i][r] = query first_q + i . row r for rows [first, first +
// n) of k, first a multiple of kKeyGroup, first_q even.
template <typename Products, typename Codes, int kQ, bool kCoarse>
HWY_INLINE void dot_packed(const PackedQueries& q, int64_t first_q, const PackedRows& k, int64_t first,
                           int64_t n, float* scores, const AskAhead& ahead) {
  const Floats df;
  const RowFormat& f = row_format(k.type);
  constexpr bool kAbove0 = taken_from_levels<Products, Codes>() > 0;
  constexpr int64_t kPerUnit = 8 / Codes::kBits;
  const int64_t width = q.width, n_units = width / (4 * kPerUnit);
  const int8_t* bytes_of = query_bytes(q, first_q);
  [[maybe_unused]] int32_t begin[2 * kQ + 2];  // high, low
  if constexpr (kAbove0) {
    for (int i = 0; i < kQ; i += 2)
      hn::StoreU(Products::sums_times_128(bytes_of + 8 * i, width / 4, kBytesOfFour), Ints(), begin + 2 * i);
  }
  for (int64_t at = 0; at < n; at += kKeyGroup) {
    const PackedPiece p = key_group(k, first + at);
    ahead.step(at / kKeyGroup, kBlockRows / kKeyGroup);
    for (int64_t r = 0; r < p.m; r += kLanes) {
      typename Products::Sum high[kQ], low[kQ];
      for (int i = 0; i < kQ; ++i) {
        high[i] = Products::from(kAbove0 ? begin[2 * i] : 0);
        low[i] = Products::from(kAbove0 ? begin[2 * i + 1] : 0);
      }
      const char *unit = k.data + p.plane + 4 * r, *bits = k.data + p.extra + r / 2;
      for (int64_t u = 0; u < n_units; ++u) {
        const auto codes = hn::LoadU(Bytes(), reinterpret_cast<const uint8_t*>(unit));
        add_unit<Products, Codes, QueryBytes, kCoarse>(std::make_integer_sequence<int, kQ>(), codes, bits,
                                                       p.m / 2, bytes_of + u * kPerUnit * kBytesOfFour, high,
                                                       low);
        unit += 4 * p.m;
        if (Codes::kExtra) bits += kPerUnit * p.m / 2;
      }
      const auto scale = hn::Mul(load_halves(k.data + p.scales + 2 * r), hn::Set(df, f.unit));
      for (int i = 0; i < kQ; ++i) {
        const int64_t j = first_q + i;
        const auto products = kCoarse ? hn::ConvertTo(df, Products::total(high[i]))
                                      : whole(Products::total(high[i]), Products::total(low[i]));
        const auto sum = hn::Sub(products, hn::Set(df, f.offset * q.sum[j]));
        const auto score =
            hn::MulAdd(sum, hn::Mul(scale, hn::Set(df, q.scale[j])), hn::Set(df, q.of_mean[j]));
        hn::StoreU(score, df, scores + i * kBlockRows + at + r);
      }
    }
  }
}

// out[i][...] = sum over r of weight i of row r times the row, of the block of values from `first` on.
template <typename Products, typename Codes, int kQ>
HWY_INLINE void mix_packed(const PackedWeights& w, const PackedRows& v, int64_t first, float* out,
                           size_t out_stride, const AskAhead& ahead) {
  const Floats df;
  const RowFormat& f = row_format(v.type);
  constexpr bool kAbove0 = taken_from_levels<Products, Codes>() > 0;
  constexpr int64_t kPerUnit = 8 / Codes::kBits;
  const PackedPiece p = value_block(v, first);
  const int64_t width = padded_row(v.d), n_units = p.m / (4 * kPerUnit);
  [[maybe_unused]] int32_t begin[2 * kQ];  // high, low
  if constexpr (kAbove0) {
    for (int i = 0; i < 2 * kQ; ++i) {
      const int8_t* bytes = (i % 2 == 0 ? w.high : w.low) + i / 2 * kValueBlock;
      const auto sums = Products::sums_times_128(bytes, whole_weights(p.m) / 16, 16);
      begin[i] = hn::GetLane(hn::SumOfLanes(Ints(), sums));
    }
  }
  for (int64_t c = 0; c < width; c += 16) {
    ahead.step(c / 16, width / 16);
    for (int64_t lane = 0; lane < 16; lane += kLanes) {
      typename Products::Sum high[kQ], low[kQ];
      for (int i = 0; i < kQ; ++i) {
        high[i] = Products::from(kAbove0 ? begin[2 * i] : 0);
        low[i] = Products::from(kAbove0 ? begin[2 * i + 1] : 0);
      }
      const char* unit = v.data + p.plane + c / 16 * n_units * 64 + 4 * lane;
      const char* bits = v.data + p.extra + c / 16 * (p.m / 4) * 8 + lane / 2;
      for (int64_t u = 0; u < n_units; ++u) {
        const auto codes = hn::LoadU(Bytes(), reinterpret_cast<const uint8_t*>(unit + u * 64));
        add_unit<Products, Codes, WeightBytes<Codes>, false>(std::make_integer_sequence<int, kQ>(), codes,
                                                             bits + u * kPerUnit * 8, 8,
                                                             w.high + u * 4 * kPerUnit, high, low);
      }
      for (int i = 0; i < kQ; ++i) {
        const auto products = whole(Products::total(high[i]), Products::total(low[i]));
        const auto sum = hn::Sub(products, hn::Set(df, f.offset * w.sum[i]));
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
