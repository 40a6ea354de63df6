#include "attention/packed_kernel.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

// Arrays of vectors below need vectors of a fixed size.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/packed_kernel.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "attention/packed_rows-inl.h"
#include "attention/plain_rows-inl.h"
#include "attention/softmax-inl.h"

HWY_BEFORE_NAMESPACE();
namespace curdkv {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Queries at once. Kernels for five and six would take long to compile and serve few models; they are taken
// as four and the rest.
template <typename Products>
constexpr int64_t at_once(int64_t n) {
  return n >= 8 ? Products::kAtOnce : n == 7 && Products::kAtOnce == 8 ? 7 : std::min<int64_t>(n, 4);
}
template <typename Products, typename F>
HWY_INLINE void with_few(int64_t n, const F& f) {
  if constexpr (Products::kAtOnce == 8) {
    if (n == 8) return f(std::integral_constant<int, 8>());
    if (n == 7) return f(std::integral_constant<int, 7>());
  }
  with_count<4>(n, f);
}

template <bool kCoarse>
void set_queries(const PackedQueries& q) {
  const Floats df;
  constexpr float kMost = kCoarse ? kMostInOne : kMostInTwoBytes;
  int8_t high[kMostRowSize], low[kMostRowSize] = {};
  for (int64_t i = 0; i < q.n; ++i) {
    const float* from = q.turned + i * q.width;
    auto most = hn::Zero(df);
    for (int64_t d = 0; d < q.width; d += kLanes) most = hn::Max(most, hn::Abs(hn::LoadU(df, from + d)));
    const float highest = hn::GetLane(hn::MaxOfLanes(df, most));
    q.scale[i] = highest / kMost;
    q.sum[i] = split_into_bytes<kCoarse>(from, q.width, highest > 0 ? kMost / highest : 0.0f, high, low);
    int8_t* to = query_bytes(q, i);
    for (int64_t d = 0; d < q.width; d += 4, to += kBytesOfFour) {
      std::memcpy(to, high + d, 4);
      std::memcpy(to + 4, low + d, 4);
    }
  }
}

void SetPackedQueries(const PackedQueries& q, bool coarse) {
  coarse ? set_queries<true>(q) : set_queries<false>(q);
}

void multiply_by_mean(const PackedQueries& q, const ggml_fp16_t* mean) {
  const Floats df;
  for (int64_t i = 0; i < q.n; ++i) {
    auto sum = hn::Zero(df);
    for (int64_t d = 0; d < q.width; d += kLanes)
      sum = hn::MulAdd(hn::LoadU(df, q.turned + i * q.width + d),
                       load_halves(reinterpret_cast<const char*>(mean + d)), sum);
    q.of_mean[i] = hn::GetLane(hn::SumOfLanes(df, sum));
  }
}

// out += mass * mean.
void add_mean(float* out, int64_t width, float mass, const ggml_fp16_t* mean) {
  const Floats df;
  for (int64_t d = 0; d < width; d += kLanes) {
    const auto m = load_halves(reinterpret_cast<const char*>(mean + d));
    hn::StoreU(hn::MulAdd(hn::Set(df, mass), m, hn::LoadU(df, out + d)), df, out + d);
  }
}

// The bytes behind their scales of n rows of a block. piece: key_group() or value_block().
template <typename Piece>
AskAhead bytes_of_block(const PackedRows& rows, const Piece& piece, int64_t first, int64_t n) {
  const int64_t bytes = encoded_row_bytes(rows.type, rows.d);
  if (rows.type == RowType::f16) return {rows.data + first * bytes, n * bytes};
  return {rows.data + piece(rows, first).plane, n * (bytes - 2)};
}
// Those behind this block's, whether or not there are so many.
AskAhead next_keys(const PackedBlock& b) {
  AskAhead keys = bytes_of_block(b.k, key_group, b.first, kBlockRows);
  keys.from += keys.n_bytes;
  return keys;
}

template <typename Products>
void score_packed(const PackedBlock& b, int64_t first_q, int64_t n, float* scores) {
  const AskAhead ahead = bytes_of_block(b.v, value_block, b.first, b.n);
  with_few<Products>(n, [&](auto count) {
    if (b.k.type == RowType::f16) {
      const size_t stride = static_cast<size_t>(encoded_row_bytes(RowType::f16, b.k.d));
      const char* k = b.k.data + static_cast<size_t>(b.first) * stride;
      dot_rows<F16Rows, count>(b.q.turned + first_q * b.q.width, k, stride, b.n, b.q.width, scores,
                               ahead.from, static_cast<size_t>(ahead.n_bytes / b.n), KeysAhead(k, stride, 0));
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t r = 0; r < b.n; ++r) scores[i * kBlockRows + r] += b.q.of_mean[first_q + i];
      }
      return;
    }
    with_codes(b.k.type, [&](auto codes) {
      dot_packed<Products, decltype(codes), count, false>(b.q, first_q, b.k, b.first, b.n, scores, ahead);
    });
  });
}

template <typename Products>
void mix_block(const PackedBlock& b, int64_t n, float* p, const PackedWeights& w, float* out,
               size_t out_stride) {
  if (b.v.type != RowType::f16) {
    const PackedPiece piece = value_block(b.v, b.first);
    const int64_t m = whole_weights(piece.m);
    alignas(64) float scales[kValueBlock];
    widen_scales(b.v.data + piece.scales, b.n, m, scales);
    pack_weights(p, n, scales, m, w);
  }
  const AskAhead ahead = next_keys(b);
  with_few<Products>(n, [&](auto count) {
    if (b.v.type == RowType::f16) {
      const size_t stride = static_cast<size_t>(encoded_row_bytes(RowType::f16, b.v.d));
      const char* v = b.v.data + static_cast<size_t>(b.first) * stride;
      return mix_rows<F16Rows, count>(p, v, stride, b.n, padded_row(b.v.d), out, out_stride,
                                      KeysAhead(v, stride, 0));
    }
    with_codes(b.v.type, [&](auto codes) {
      mix_packed<Products, decltype(codes), count>(w, b.v, b.first, out, out_stride, ahead);
    });
  });
}

template <typename Products>
void attend_block_by(const PackedBlock& b, float* out, size_t out_stride, float* scratch) {
  float* scores = scratch;
  auto* bytes = reinterpret_cast<int8_t*>(scores + kMostQueries * kBlockRows);
  float* floats = scores + kMostQueries * (kBlockRows + kValueBlock / 2);
  const PackedWeights w = {bytes, bytes + kMostQueries * kValueBlock, floats, floats + kMostQueries};
  multiply_by_mean(b.q, b.k.mean);
  for (int64_t first = 0, n; first < b.q.n; first += n) {
    // Queries whose bytes lie side by side.
    n = at_once<Products>(std::min<int64_t>(b.q.n - first, kMostQueries - first % kMostQueries));
    float* to = out + static_cast<size_t>(first) * out_stride;
    score_packed<Products>(b, first, n, scores);
    for (int64_t i = 0; i < n; ++i)
      to[static_cast<size_t>(i) * out_stride] = max_of_visible(scores + i * kBlockRows, b.n);
    for (int64_t i = 0; i < n; ++i) {
      float* o = to + static_cast<size_t>(i) * out_stride;
      o[1] = exp_of_visible(scores + i * kBlockRows, b.n, o[0]);
    }
    mix_block<Products>(b, n, scores, w, to + 2, out_stride);
    for (int64_t i = 0; i < n; ++i) {
      float* o = to + static_cast<size_t>(i) * out_stride;
      add_mean(o + 2, padded_row(b.v.d), o[1], b.v.mean);
    }
  }
}

void AttendPackedBlock(const PackedBlock& block, float* out, size_t out_stride, float* scratch) {
  with_products([&](auto products) { attend_block_by<decltype(products)>(block, out, out_stride, scratch); });
}

// scores become 2^(score - highest), a little more than 0 far below; returns their sum.
HWY_INLINE float powers_below(float* scores, float highest) {
  const Floats df;
  auto sum = hn::Zero(df);
  for (int64_t i = 0; i < kBlockRows; i += kLanes) {
    const auto power = power_of_two_roughly(hn::Sub(hn::LoadU(df, scores + i), hn::Set(df, highest)));
    hn::StoreU(power, df, scores + i);
    sum = hn::Add(sum, power);
  }
  return hn::GetLane(hn::SumOfLanes(df, sum));
}

// What powers of each block, taken below its highest score and with this sum, are multiplied by to become
// weights; in place of the highest scores.
HWY_INLINE void factors_of_blocks(float* highest, const float* sums, int64_t n) {
  const Floats df;
  auto most = hn::Set(df, -std::numeric_limits<float>::infinity()), sum = hn::Zero(df);
  for (int64_t b = 0; b < n; b += kLanes) most = hn::Max(most, hn::LoadU(df, highest + b));
  most = hn::MaxOfLanes(df, most);
  for (int64_t b = 0; b < n; b += kLanes) {
    const auto factor = power_of_two_roughly(hn::Sub(hn::LoadU(df, highest + b), most));
    hn::StoreU(factor, df, highest + b);
    sum = hn::MulAdd(factor, hn::LoadU(df, sums + b), sum);
  }
  const auto inverse = hn::Div(hn::Set(df, 1.0f), hn::SumOfLanes(df, sum));
  for (int64_t b = 0; b < n; b += kLanes)
    hn::StoreU(hn::Mul(hn::LoadU(df, highest + b), inverse), df, highest + b);
}

// Each block's powers are taken below its own highest score, while they are at hand; with what that makes of
// the weights they come once more.
template <typename Products>
float add_squared_weights_by(const PackedQueries& q, const PackedRows& k, const float* first,
                             std::span<const float> shares, float* scratch, float* squares) {
  const Floats df;
  float shared = 0;
  constexpr int64_t kStride = Products::kAtOnce * kBlockRows;
  const int64_t n_blocks = n_blocks_of(k.n), room = padded_row(n_blocks);
  float *highest = scratch + kMostQueries * kBlockRows * n_blocks, *sums = highest + kMostQueries * room;
  multiply_by_mean(q, k.mean);
  for (int64_t first_q = 0, n; first_q < q.n; first_q += n) {
    n = at_once<Products>(q.n - first_q);
    std::fill_n(highest, n * room, -std::numeric_limits<float>::infinity());
    std::fill_n(sums, n * room, 0.0f);
    for (int64_t b = 0; b < n_blocks; ++b) {
      float* block = scratch + b * kStride;
      const int64_t n_rows = std::min(kBlockRows, k.n - b * kBlockRows);
      with_count<Products::kAtOnce>(n, [&](auto count) {
        dot_packed<Products, Codes8, count, true>(q, first_q, k, b * kBlockRows, n_rows, block, {});
      });
      for (int64_t i = 0; i < n; ++i) {
        highest[i * room + b] = max_of_visible(block + i * kBlockRows, n_rows);
        sums[i * room + b] = powers_below(block + i * kBlockRows, highest[i * room + b]);
      }
    }
    for (int64_t i = 0; i < n; ++i) {
      factors_of_blocks(highest + i * room, sums + i * room, room);
      const auto at = static_cast<int64_t>(first[first_q + i]);
      for (int64_t r = at; r < std::min(k.n, at + std::ssize(shares)); ++r) {
        const int64_t b = r / kBlockRows;
        shared += shares[static_cast<size_t>(r - at)] * highest[i * room + b] *
                  scratch[b * kStride + i * kBlockRows + r % kBlockRows];
      }
    }
    for (int64_t b = 0; b < n_blocks; ++b) {
      const float* block = scratch + b * kStride;
      for (int64_t r = 0; r < kBlockRows; r += kLanes) {
        auto all = hn::LoadU(df, squares + b * kBlockRows + r);
        for (int64_t i = 0; i < n; ++i) {
          const auto factor = hn::Set(df, highest[i * room + b]);
          const auto weight = hn::Mul(hn::LoadU(df, block + i * kBlockRows + r), factor);
          all = hn::MulAdd(weight, weight, all);
        }
        hn::StoreU(all, df, squares + b * kBlockRows + r);
      }
    }
  }
  return shared;
}

float AddSquaredWeights(const PackedQueries& q, const PackedRows& k, const float* first,
                        std::span<const float> shares, float* scratch, float* squares) {
  return with_products([&](auto products) {
    return add_squared_weights_by<decltype(products)>(q, k, first, shares, scratch, squares);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace curdkv
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace curdkv {

HWY_EXPORT(SetPackedQueries);
HWY_EXPORT(AttendPackedBlock);
HWY_EXPORT(AddSquaredWeights);

PackedQueries PackedQueries::lay_out(Scratch& scratch, int64_t n, int64_t d_k) {
  const int64_t width = padded_row(d_k);
  PackedQueries q = {};
  q.n = n;
  q.width = width;
  q.turned = scratch.take<float>(n * width);
  q.bytes = scratch.take<int8_t>((n + kMostQueries - 1) / kMostQueries * kMostQueries * 2 * width);
  q.scale = scratch.take<float>(n);
  q.sum = scratch.take<float>(n);
  q.of_mean = scratch.take<float>(n);
  return q;
}

void PackedQueries::set(const float* q, int64_t d_k, bool coarse) const {
  for (int64_t i = 0; i < n; ++i) {
    float* to = turned + i * width;
    std::copy_n(q + i * d_k, d_k, to);
    std::fill(to + d_k, to + width, 0.0f);
    turn_row(to, d_k);
  }
  HWY_DYNAMIC_DISPATCH(SetPackedQueries)(*this, coarse);
}

void attend_packed_block(const PackedBlock& block, float* out, size_t out_stride, float* scratch) {
  HWY_DYNAMIC_DISPATCH(AttendPackedBlock)(block, out, out_stride, scratch);
}

int64_t squared_weights_floats(int64_t n_rows) {
  return kMostQueries * (kBlockRows * n_blocks_of(n_rows) + 2 * padded_row(n_blocks_of(n_rows)));
}

float add_squared_weights(const PackedQueries& q, const PackedRows& k, const float* first,
                          std::span<const float> shares, float* scratch, float* squares) {
  return HWY_DYNAMIC_DISPATCH(AddSquaredWeights)(q, k, first, shares, scratch, squares);
}

}  // namespace curdkv
#endif  // HWY_ONCE
