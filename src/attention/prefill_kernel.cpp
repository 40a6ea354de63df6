#include "attention/prefill_kernel.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "compute/bf16_tiles.h"

// Arrays of vectors below need vectors of a fixed size.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/prefill_kernel.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "attention/exp2-inl.h"
#include "attention/prefill_pairs-inl.h"
#include "attention/prefill_strips-inl.h"
#include "attention/prefill_tiles-inl.h"

HWY_BEFORE_NAMESPACE();
namespace curdkv {
namespace HWY_NAMESPACE {
static_assert(kTileUnit % kStrip == 0);

// scores[key][strip] of keys [first_key, first_key + n), for queries at positions `position` and on, become
// powers of two. max, sum: of the strip's queries so far, updated; scale: what sums so far are to be
// multiplied by.
HWY_INLINE void soften(float* scores, int64_t first_key, int64_t n, int64_t position, float* max, float* sum,
                       float* scale) {
  const Floats df;
  const auto lowest = hn::Set(df, -std::numeric_limits<float>::infinity());
  for (int64_t j = 0; j < kVectors; ++j, scores += kLanes, max += kLanes, sum += kLanes, scale += kLanes) {
    // A key is seen if it is no later than the query; counted from first_key, so that small numbers are
    // compared.
    const auto last_seen =
        hn::Add(hn::Set(df, static_cast<float>(position + j * kLanes - first_key)), hn::Iota(df, 0.0f));
    const auto before = hn::Load(df, max);
    auto most = before;
    for (int64_t i = 0; i < n; ++i) {
      auto s = hn::Load(df, scores + i * kStrip);
      if (first_key + i > position + j * kLanes) {
        s = hn::IfThenElse(hn::Le(hn::Set(df, static_cast<float>(i)), last_seen), s, lowest);
        hn::Store(s, df, scores + i * kStrip);
      }
      most = hn::Max(most, s);
    }
    const auto shrink = power_of_two_or_zero(hn::Sub(before, most));
    auto total = hn::Mul(hn::Load(df, sum), shrink);
    for (int64_t i = 0; i < n; ++i) {
      const auto p = power_of_two_or_zero(hn::Sub(hn::Load(df, scores + i * kStrip), most));
      hn::Store(p, df, scores + i * kStrip);
      total = hn::Add(total, p);
    }
    hn::Store(most, df, max);
    hn::Store(total, df, sum);
    hn::Store(shrink, df, scale);
  }
}

// A tile's scratch, every array of strips aligned to vectors.
struct Scratch {
  float* q;       // [n_rows / kStrip][d_k][kStrip]
  float* o;       // [n_rows / kStrip][d_v][kStrip]
  float* max;     // [n_rows]
  float* sum;     // [n_rows]
  float* s;       // [kKeys][kStrip]
  float* shrink;  // [kStrip]
  float* k;       // [kKeys][d_k]
  float* v;       // [kKeys][d_v]
  Pairs pairs;    // or
  InTiles tiles;

  // Lays the arrays out from `first` on, unless that is null; returns the floats they take.
  size_t lay_out(float* first, int64_t n_rows, int64_t d_k, int64_t d_v) {
    int64_t taken = 0;
    const auto take = [&]<typename T>(T*& array, int64_t n) {
      array = first == nullptr ? nullptr : reinterpret_cast<T*>(first + taken);
      taken += (n + 15) / 16 * 16;
    };
    take(q, n_rows * d_k);
    take(o, n_rows * d_v);
    take(max, n_rows);
    take(sum, n_rows);
    take(s, kKeys * kStrip);
    take(shrink, kStrip);
    take(k, kKeys * d_k);
    take(v, kKeys * d_v);
    const int64_t before = taken;
    if constexpr (kHasPairs) {
      take(pairs.q, n_rows * d_k / 2);
      take(pairs.q_scale, n_rows);
      take(pairs.k, kKeys * d_k / 2);
      take(pairs.k_scale, kKeys);
      take(pairs.v, kKeys / 2 * d_v);
      take(pairs.v_scale, d_v);
      take(pairs.p, kKeys / 2 * kStrip);
    }
    const int64_t with_pairs = std::exchange(taken, before);
    if constexpr (kHasTiles) {
      take(tiles.q, n_rows * 3 * d_k / 2);
      take(tiles.k, kKeys * 3 * d_k / 2);
      take(tiles.v, kKeys * d_v);
      take(tiles.p, kKeys * kStrip);
      take(tiles.sum, kTileSide * kStrip);
    }
    return static_cast<size_t>(std::max(taken, with_pairs));
  }
};

// A block of keys from `at` on, some of which a strip may not see, against the strip from row r on.
HWY_INLINE void attend_floats(const PrefillTile& t, const Scratch& c, int64_t r, int64_t at,
                              int64_t position) {
  const Floats df;
  const int64_t d_k = t.d_k, d_v = t.d_v;
  const int64_t n_seen = std::min(kKeys, (position + kStrip - at + kRows - 1) / kRows * kRows);
  for (int64_t i = 0; i < n_seen; i += kRows) {
    multiply_rows(
        c.k + i * d_k, static_cast<size_t>(d_k), 1, c.q + r * d_k, d_k,
        [&](int64_t row, int64_t j, Vec x) { hn::Store(x, df, c.s + (i + row) * kStrip + j * kLanes); });
  }
  soften(c.s, at, n_seen, position, c.max + r, c.sum + r, c.shrink);
  for (int64_t d = 0; d < d_v; d += kRows) {
    multiply_rows(c.v + d, 1, static_cast<size_t>(d_v), c.s, n_seen, [&](int64_t row, int64_t j, Vec x) {
      float* to = c.o + r * d_v + (d + row) * kStrip + j * kLanes;
      hn::Store(hn::MulAdd(hn::Load(df, to), hn::Load(df, c.shrink + j * kLanes), x), df, to);
    });
  }
}

// Row r of the tile is token r % n_tokens of query head r / n_tokens; strips are of consecutive rows.
void AttendTile(const PrefillTile& t, float* scratch) {
  const int64_t n_rows = t.n_group * t.n_tokens, d_k = t.d_k, d_v = t.d_v;
  Scratch c;
  c.lay_out(scratch, n_rows, d_k, d_v);
  const float scale = t.scale * 1.44269504f;  // exp(x) = 2^(x log2(e))
  for (int64_t r = 0; r < n_rows; ++r) {
    const auto* from =
        reinterpret_cast<const float*>(t.q + static_cast<size_t>(r / t.n_tokens) * t.q_head_stride +
                                       static_cast<size_t>(r % t.n_tokens) * t.q_token_stride);
    for (int64_t d = 0; d < d_k; ++d) c.q[(r / kStrip * d_k + d) * kStrip + r % kStrip] = from[d] * scale;
  }
  std::fill_n(c.o, n_rows * d_v, 0.0f);
  std::fill_n(c.max, n_rows, -std::numeric_limits<float>::infinity());
  std::fill_n(c.sum, n_rows, 0.0f);
  // A whole block whose keys a strip sees all is the same for every tile and chunk, so that its steps are.
  const bool is_f16 = t.type_k == GGML_TYPE_F16 && t.type_v == GGML_TYPE_F16;
  const bool in_tiles =
      kHasTiles && t.tiles != nullptr && is_f16 && d_k % kTileSide == 0 && d_v % kTileSide == 0;
  const bool in_pairs = kHasPairs && !in_tiles && is_f16 && d_k % kLanes == 0 && d_v % kLanes == 0;
  const auto sees_all = [&](int64_t at, int64_t position) {
    return (in_tiles || in_pairs) && at + kKeys <= position + 1;
  };
  std::optional<TilesInUse> in_use;
  if (in_tiles) in_use.emplace(*t.tiles);
  for (int64_t r = 0; r < n_rows; r += kStrip) {
    if (in_tiles) pack_queries(c.q + r * d_k, d_k, c.tiles.q + r * 3 * d_k / 2);
    if (in_pairs)
      pack_columns(c.q + r * d_k, d_k / 2, kStrip, kNormQK, c.pairs.q + r * d_k / 2, c.pairs.q_scale + r);
  }
  const int64_t n_keys = t.first + t.n_tokens;  // that the last query sees
  for (int64_t at = 0; at < n_keys; at += kKeys) {
    const int64_t n = std::min(kKeys, n_keys - at);
    widen(t.k + static_cast<size_t>(at) * t.k_stride, t.k_stride, t.type_k, n, d_k, c.k);
    widen(t.v + static_cast<size_t>(at) * t.v_stride, t.v_stride, t.type_v, n, d_v, c.v);
    const bool is_whole = sees_all(at, n_keys - kStrip);
    if (is_whole && in_tiles) {
      pack_keys(c.k, d_k, c.tiles.k);
      pack_values(c.v, d_v, c.tiles.v);
    }
    if (is_whole && in_pairs) {
      pack_rows(c.k, kKeys, d_k, kNormQK, c.pairs.k, c.pairs.k_scale);
      pack_columns(c.v, kKeys / 2, d_v, kNormV, c.pairs.v, c.pairs.v_scale);
    }
    for (int64_t r = 0; r < n_rows; r += kStrip) {
      const int64_t position = t.first + r % t.n_tokens;  // of the strip's first query
      if (at >= position + kStrip) continue;
      if (!sees_all(at, position)) {
        attend_floats(t, c, r, at, position);
      } else if (in_tiles) {
        attend_in_tiles(*t.tiles, c.tiles, r, d_k, d_v, c.s, c.max + r, c.sum + r, c.o + r * d_v);
      } else {
        attend_pairs(c.pairs, r, d_k, d_v, c.s, c.max + r, c.sum + r, c.o + r * d_v);
      }
    }
  }
  for (int64_t r = 0; r < n_rows; ++r) {
    float* to = t.out + static_cast<size_t>(r % t.n_tokens) * t.out_token_stride + r / t.n_tokens * d_v;
    const float inverse = 1 / c.sum[r];
    for (int64_t d = 0; d < d_v; ++d) to[d] = c.o[(r / kStrip * d_v + d) * kStrip + r % kStrip] * inverse;
  }
}

size_t PrefillScratchFloats(int64_t n_tokens, int64_t n_group, int64_t d_k, int64_t d_v) {
  return Scratch().lay_out(nullptr, n_group * n_tokens, d_k, d_v);
}

int64_t PrefillTarget() {
  return HWY_TARGET;
}

bool PrefillHasPairs() {
  return kHasPairs;
}

}  // namespace HWY_NAMESPACE
}  // namespace curdkv
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace curdkv {

HWY_EXPORT(AttendTile);
HWY_EXPORT(PrefillScratchFloats);
HWY_EXPORT(PrefillTarget);
HWY_EXPORT(PrefillHasPairs);

std::string prefill_kernel_name() {
  return std::string(amx_tiles() != nullptr ? "BF16, AMX, where a block is seen whole, F32, "
                     : HWY_DYNAMIC_DISPATCH(PrefillHasPairs)()
                         ? "16-bit integers where a block is seen whole, F32, "
                         : "F32, ") +
         hwy::TargetName(HWY_DYNAMIC_DISPATCH(PrefillTarget)());
}

size_t prefill_scratch_floats(int64_t n_tokens, int64_t n_group, int64_t d_k, int64_t d_v) {
  return HWY_DYNAMIC_DISPATCH(PrefillScratchFloats)(n_tokens, n_group, d_k, d_v);
}

void attend_tile(const PrefillTile& tile, float* scratch) {
  HWY_DYNAMIC_DISPATCH(AttendTile)(tile, scratch);
}

}  // namespace curdkv
#endif  // HWY_ONCE
