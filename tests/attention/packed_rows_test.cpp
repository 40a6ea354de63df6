// Packed rows: what their codes lose, where they lie, and kernels over them against sums in double precision
// over the rows they stand for.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "attention/packed_kernel.h"
#include "base/cpu.h"
#include "cache/packed_rows.h"

namespace curdkv {
namespace {

constexpr RowType kTypes[] = {RowType::f16, RowType::q8, RowType::q5, RowType::q4, RowType::q3};

std::vector<float> gaussian(int64_t n, uint64_t seed, float deviation = 1) {
  std::mt19937_64 rng(seed);
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> x(static_cast<size_t>(n));
  for (float& v : x) v = normal(rng);
  return x;
}

// n packed rows, keys or values, around a mean, in memory of their own; unused bytes are all ones, so that
// what a kernel takes from behind the rows is no number.
struct Packed {
  std::vector<char> memory;
  std::vector<ggml_fp16_t> mean;
  PackedRows rows;
  std::vector<float> unpacked;  // [n][d]

  Packed(RowType type, int64_t d, int64_t n, bool keys, uint64_t seed) {
    const std::vector<float> m = gaussian(d, seed, 0.5f);
    const int64_t row_bytes = encoded_row_bytes(type, d);
    std::vector<char> encoded(static_cast<size_t>(row_bytes * n));
    for (int64_t i = 0; i < n; ++i) {
      const std::vector<float> x = gaussian(d, seed + 1 + static_cast<uint64_t>(i));
      encode_rows(type, x.data(), 1, d, encoded.data() + i * row_bytes);
    }
    lay_out(type, d, n, keys, m, encoded);
  }
  // Rows as they are encoded, around zero.
  Packed(RowType type, int64_t d, int64_t n, bool keys, const std::vector<char>& encoded) {
    lay_out(type, d, n, keys, std::vector(static_cast<size_t>(d), 0.0f), encoded);
  }

 private:
  void lay_out(RowType type, int64_t d, int64_t n, bool keys, const std::vector<float>& m,
               const std::vector<char>& encoded) {
    const int64_t bytes = keys ? packed_key_bytes(type, d, n) : packed_value_bytes(type, d, n);
    memory.assign(static_cast<size_t>(bytes), 0);
    memory.resize(static_cast<size_t>(bytes + kPackedSlack), static_cast<char>(0xff));
    mean.assign(static_cast<size_t>(padded_row(d)), 0);
    ggml_fp32_to_fp16_row(m.data(), mean.data(), d);
    rows = {type, d, n, memory.data(), mean.data()};
    std::vector<const char*> each;
    for (int64_t i = 0; i < n; ++i) each.push_back(encoded.data() + i * encoded_row_bytes(type, d));
    for (int64_t i = 0; i < n; i += kRowsTogether) {
      const auto some = std::span(each).subspan(static_cast<size_t>(i));
      (keys ? put_keys : put_values)(rows, i, some.first(std::min<size_t>(some.size(), kRowsTogether)));
    }
    unpacked.resize(static_cast<size_t>(n * d));
    for (int64_t i = 0; i < n; ++i) (keys ? unpack_key : unpack_value)(rows, i, unpacked.data() + i * d);
  }
};

TEST(RowCodec, TurningTwiceChangesNothing) {
  for (const int64_t d : {1, 8, 64, 80, 96, 256}) {
    const std::vector<float> x = gaussian(d, 1);
    std::vector<float> y = x;
    turn_row(y.data(), d);
    double before = 0, after = 0;
    for (int64_t i = 0; i < d; ++i) {
      before += x[i] * x[i];
      after += y[i] * y[i];
    }
    EXPECT_NEAR(after, before, 1e-4 * before);
    EXPECT_EQ(d == 1, y == x);
    turn_row(y.data(), d);
    for (int64_t i = 0; i < d; ++i) EXPECT_NEAR(y[i], x[i], 1e-5f);
  }
}

TEST(RowCodec, AGaussiansErrorIsWhatItsBitsCost) {
  // Signal to noise in dB. A quantiser with one level's table for all would do at best 14.6 (3 bits), 20.2,
  // 26.0 and 42.8 of evenly spaced levels; rows' own scales add a little.
  const std::pair<RowType, double> least[] = {
      {RowType::q3, 14.6}, {RowType::q4, 20.2}, {RowType::q5, 26.0}, {RowType::q8, 42.8}, {RowType::f16, 70}};
  for (const auto& [type, db] : least) {
    double signal = 0, noise = 0;
    std::vector<char> row(static_cast<size_t>(encoded_row_bytes(type, 64)));
    for (uint64_t i = 0; i < 500; ++i) {
      const std::vector<float> x = gaussian(64, i, 1e-3f);
      std::vector<float> y(64);
      encode_rows(type, x.data(), 1, 64, row.data());
      decode_row(type, row.data(), 64, y.data());
      for (size_t j = 0; j < 64; ++j) {
        signal += x[j] * x[j];
        noise += (x[j] - y[j]) * (x[j] - y[j]);
      }
    }
    EXPECT_GT(10 * std::log10(signal / noise), db) << static_cast<int>(type);
  }
}

TEST(RowCodec, ARowOfZerosStaysOne) {
  for (const RowType type : kTypes) {
    std::vector<float> x(64, 0.0f), y(64, 1.0f);
    std::vector<char> row(static_cast<size_t>(encoded_row_bytes(type, 64)));
    encode_rows(type, x.data(), 1, 64, row.data());
    decode_row(type, row.data(), 64, y.data());
    EXPECT_EQ(x, y);
  }
}

TEST(RowCodec, AMeanIsThatOfItsRows) {
  for (const ggml_type type : {GGML_TYPE_F16, GGML_TYPE_F32}) {
    for (const int64_t d : {1, 20, 40, 64, 80, 256}) {
      for (const int64_t n : {1, 63, 64, 130}) {
        SCOPED_TRACE(::testing::Message() << ggml_type_name(type) << " d " << d << " n " << n);
        constexpr int64_t kBetween = 3;  // elements that are no rows'
        const std::vector<float> all = gaussian(n * (d + kBetween), 7);
        std::vector<ggml_fp16_t> halves(all.size());
        ggml_fp32_to_fp16_row(all.data(), halves.data(), std::ssize(all));
        std::vector<float> expected(static_cast<size_t>(d));
        for (int64_t i = 0; i < d; ++i) {
          double sum = 0;
          for (int64_t r = 0; r < n; ++r) {
            const auto at = static_cast<size_t>(r * (d + kBetween) + i);
            sum += type == GGML_TYPE_F32 ? all[at] : ggml_fp16_to_fp32(halves[at]);
          }
          expected[static_cast<size_t>(i)] = static_cast<float>(sum / static_cast<double>(n));
        }
        turn_row(expected.data(), d);
        std::vector<ggml_fp16_t> mean(static_cast<size_t>(padded_row(d)), 1);
        const bool f32 = type == GGML_TYPE_F32;
        turned_mean(type,
                    reinterpret_cast<const char*>(f32 ? static_cast<const void*>(all.data()) : halves.data()),
                    ggml_type_size(type) * static_cast<size_t>(d + kBetween), n, d, mean.data());
        for (int64_t i = 0; i < padded_row(d); ++i) {
          const float x = i < d ? expected[static_cast<size_t>(i)] : 0;
          EXPECT_NEAR(ggml_fp16_to_fp32(mean[static_cast<size_t>(i)]), x, 1e-3f * std::abs(x) + 1e-6f) << i;
        }
      }
    }
  }
}

TEST(PackedRows, ARowIsFoundWhereItWasPut) {
  for (const RowType type : kTypes) {
    for (const bool keys : {true, false}) {
      for (const int64_t d : {8, 64, 80}) {
        const Packed p(type, d, 333, keys, 7);
        std::vector<char> row(static_cast<size_t>(encoded_row_bytes(type, d)));
        for (const int64_t i : {0, 15, 16, 127, 128, 300, 331, 332}) {
          const std::vector<float> x = gaussian(d, 8 + static_cast<uint64_t>(i));
          std::vector<float> y(static_cast<size_t>(d));
          encode_rows(type, x.data(), 1, d, row.data());
          decode_row(type, row.data(), d, y.data());
          for (int64_t j = 0; j < d; ++j) y[j] += ggml_fp16_to_fp32(p.mean[j]);
          turn_row(y.data(), d);
          for (int64_t j = 0; j < d; ++j) EXPECT_EQ(p.unpacked[i * d + j], y[j]);
        }
        EXPECT_EQ(static_cast<uint8_t>(p.memory[p.memory.size() - kPackedSlack]), 0xff) << "nothing behind";
      }
    }
  }
}

struct Shape {
  RowType k, v;
  int64_t d_k, d_v, n_rows, n_q;
};

// Outputs of all blocks of rows folded and turned back.
std::vector<float> attend(const Packed& k, const Packed& v, const std::vector<float>& q, const Shape& s) {
  Scratch measure;
  PackedQueries::lay_out(measure, s.n_q, s.d_k);
  std::vector<char> memory(measure.n_bytes() + 64);
  auto* aligned = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(memory.data()) + 63) / 64 * 64);
  Scratch scratch(aligned);
  const PackedQueries packed = PackedQueries::lay_out(scratch, s.n_q, s.d_k);
  packed.set(q.data(), s.d_k);
  const auto stride = static_cast<size_t>(padded_row(s.d_v) + 2);
  std::vector<float> part(static_cast<size_t>(s.n_q) * stride), acc(part.size(), 0.0f),
      floats(kPackedScratchFloats);
  for (int64_t i = 0; i < s.n_q; ++i) acc[i * stride] = -INFINITY;
  for (int64_t first = 0; first < s.n_rows; first += kBlockRows) {
    attend_packed_block({packed, k.rows, v.rows, first, std::min(kBlockRows, s.n_rows - first)}, part.data(),
                        stride, floats.data());
    for (int64_t i = 0; i < s.n_q; ++i) fold_block(&acc[i * stride], &part[i * stride], s.d_v);
  }
  std::vector<float> out(static_cast<size_t>(s.n_q * s.d_v));
  for (int64_t i = 0; i < s.n_q; ++i) {
    finish_blocks(&acc[i * stride], &out[i * s.d_v], s.d_v);
    turn_row(&out[i * s.d_v], s.d_v);
  }
  return out;
}

std::vector<float> reference(const Packed& k, const Packed& v, const std::vector<float>& q, const Shape& s) {
  std::vector<float> out(static_cast<size_t>(s.n_q * s.d_v));
  for (int64_t i = 0; i < s.n_q; ++i) {
    std::vector<double> weight(static_cast<size_t>(s.n_rows));
    double most = -INFINITY, sum = 0;
    for (int64_t r = 0; r < s.n_rows; ++r) {
      for (int64_t d = 0; d < s.d_k; ++d)
        weight[r] += static_cast<double>(q[i * s.d_k + d]) * k.unpacked[r * s.d_k + d];
      most = std::max(most, weight[r]);
    }
    for (double& w : weight) sum += w = std::exp(w - most);
    for (int64_t d = 0; d < s.d_v; ++d) {
      double x = 0;
      for (int64_t r = 0; r < s.n_rows; ++r) x += weight[r] * v.unpacked[r * s.d_v + d];
      out[i * s.d_v + d] = static_cast<float>(x / sum);
    }
  }
  return out;
}

void expect_as_reference(const Packed& k, const Packed& v, const std::vector<float>& q, const Shape& s) {
  const std::vector<float> ours = attend(k, v, q, s), exact = reference(k, v, q, s);
  double error = 0, size = 0;
  for (size_t i = 0; i < ours.size(); ++i) {
    error += (ours[i] - exact[i]) * (ours[i] - exact[i]);
    size += exact[i] * exact[i];
  }
  EXPECT_LT(std::sqrt(error / size), 3e-4);
}

TEST(PackedKernel, AttendsAsTheRowsThatCodesStandFor) {
  std::vector<Shape> shapes;
  for (const RowType k : kTypes) {
    for (const RowType v : kTypes) shapes.push_back({k, v, 64, 64, 300, 7});
  }
  for (const int64_t d : {8, 16, 80, 96, 128, 256}) {
    for (const RowType t : kTypes) shapes.push_back({t, t, d, d, 150, 3});
  }
  for (const int64_t n : {1, 2, 15, 16, 17, 100, 127, 128, 129}) {
    for (const RowType t : kTypes) shapes.push_back({t, t, 64, 32, n, 12});
  }
  for (const Shape& s : shapes) {
    SCOPED_TRACE(::testing::Message() << static_cast<int>(s.k) << " " << static_cast<int>(s.v) << " d "
                                      << s.d_k << " rows " << s.n_rows << " queries " << s.n_q);
    const Packed k(s.k, s.d_k, s.n_rows, true, 1), v(s.v, s.d_v, s.n_rows, false, 1000);
    std::vector<float> q = gaussian(s.n_q * s.d_k, 5);
    for (float& x : q) x *= 3 / std::sqrt(static_cast<float>(s.d_k));
    expect_as_reference(k, v, q, s);
  }
}

// n rows in 8 bits, each with the lowest level or the highest everywhere, or now one, now the other.
std::vector<char> rows_of_outermost_levels(int64_t d, int64_t n, float first_scale, float scale_of_others) {
  std::vector<char> encoded;
  for (int64_t i = 0; i < n; ++i) {
    const ggml_fp16_t scale = ggml_fp32_to_fp16(i == 0 ? first_scale : scale_of_others);
    encoded.insert(encoded.end(), reinterpret_cast<const char*>(&scale),
                   reinterpret_cast<const char*>(&scale + 1));
    for (int64_t j = 0; j < d; ++j) {
      const bool highest = i % 4 == 0 ? j % 3 == 0 : i % 4 == 1 ? false : i % 4 == 2 ? true : (i + j) % 8 < 4;
      encoded.push_back(highest ? static_cast<char>(255) : 0);
    }
  }
  return encoded;
}

// Pairs of products, and many of them, at the ends of what sums of a few bits hold.
TEST(PackedKernel, SumsHoldTheOutermostLevelsTimesTheOutermostBytes) {
  const int64_t d = 64, n_q = 8;
  // Queries of whole numbers: 32512, as the largest is, and 256 k + 128, whose low byte is -128.
  std::vector<float> q;
  for (int64_t i = 0; i < n_q; ++i) {
    for (int64_t j = 0; j < d; ++j) {
      const int64_t sign = i < 4 || (i + j) % 2 == 0 ? 1 : -1, k = i % 4 == 0 ? 126 : (7 * i + 3 * j) % 127;
      q.push_back(static_cast<float>(j == i ? 32512 : sign * (256 * k + 128)) / (1 << 20));
    }
    turn_row(q.data() + i * d, d);
  }
  for (const int64_t n : {4, 128, 300}) {
    SCOPED_TRACE(n);
    const Shape s = {RowType::q8, RowType::q8, d, d, n, n_q};
    const Packed k(RowType::q8, d, n, true, rows_of_outermost_levels(d, n, 1, 1));
    expect_as_reference(k, Packed(RowType::q8, d, n, false, rows_of_outermost_levels(d, n, 1, 1)), q, s);
    // Where all keys weigh the same, weights are as the values' scales: 32512 and 128.
    const std::vector<float> zeros(q.size(), 0.0f);
    expect_as_reference(k, Packed(RowType::q8, d, n, false, rows_of_outermost_levels(d, n, 127, 0.5f)), zeros,
                        s);
  }
}

#if defined(__aarch64__)
TEST(PackedKernel, DotProductsHaveTheBitsThatOtherProductsHave) {
  for (const RowType t : kTypes) {
    for (const int64_t n_q : {1, 2, 3, 5, 7, 8, 12}) {
      const Shape s = {t, t, 64, 80, 150, n_q};
      SCOPED_TRACE(::testing::Message() << static_cast<int>(t) << " queries " << n_q);
      const Packed k(t, s.d_k, s.n_rows, true, 1), v(t, s.d_v, s.n_rows, false, 1000);
      const std::vector<float> q = gaussian(n_q * s.d_k, 5, 0.3f);
      limit_cpu(CpuLevel::native);
      const std::vector<float> by_best = attend(k, v, q, s);
      limit_cpu(CpuLevel::v2);
      EXPECT_EQ(attend(k, v, q, s), by_best);
    }
  }
  limit_cpu(CpuLevel::native);
}
#endif

}  // namespace
}  // namespace curdkv
