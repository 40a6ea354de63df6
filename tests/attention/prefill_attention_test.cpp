// A prefill's attention against causal attention in double precision.
#include <gtest/gtest.h>

#include <cmath>
#include <span>

#include "attention/prefill_kernel.h"
#include "support/emulated_tiles.h"
#include "support/instruction_sets.h"
#include "support/score.h"

namespace curdkv::testing {
namespace {

struct Case {
  int64_t first, n_tokens, n_group, d_k, d_v;
  ggml_type type;
  float scale;
};

std::vector<float> attend(const Case& c, const std::vector<float>& q, const std::vector<char>& k,
                          const std::vector<char>& v, const Bf16Tiles* tiles = nullptr) {
  const size_t n = prefill_scratch_floats(c.n_tokens, c.n_group, c.d_k, c.d_v);
  std::vector<float> memory(n + 16);
  float* scratch =
      memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) / sizeof(float) % 16;
  std::vector<float> out(static_cast<size_t>(c.n_tokens * c.n_group * c.d_v));
  PrefillTile t = {};
  t.q = reinterpret_cast<const char*>(q.data());
  t.n_tokens = c.n_tokens;
  t.q_head_stride = static_cast<size_t>(c.d_k) * sizeof(float);
  t.q_token_stride = static_cast<size_t>(c.n_group) * t.q_head_stride;
  t.k = k.data();
  t.v = v.data();
  t.k_stride = ggml_row_size(c.type, c.d_k);
  t.v_stride = ggml_row_size(c.type, c.d_v);
  t.type_k = t.type_v = c.type;
  t.out = out.data();
  t.out_token_stride = static_cast<size_t>(c.n_group * c.d_v);
  t.first = c.first;
  t.n_group = c.n_group;
  t.d_k = c.d_k;
  t.d_v = c.d_v;
  t.scale = c.scale;
  t.tiles = tiles;
  attend_tile(t, scratch);
  return out;
}

// Rows of n floats in the cache's type, and what they are worth.
std::vector<char> rows_of(ggml_type type, std::vector<float>& values, int64_t d) {
  const auto n = static_cast<int64_t>(values.size());
  std::vector<char> bytes(ggml_row_size(type, d) * static_cast<size_t>(n / d));
  if (type == GGML_TYPE_F32) {
    std::copy_n(reinterpret_cast<const char*>(values.data()), bytes.size(), bytes.data());
  } else {
    ggml_fp32_to_fp16_row(values.data(), reinterpret_cast<ggml_fp16_t*>(bytes.data()), n);
    ggml_fp16_to_fp32_row(reinterpret_cast<const ggml_fp16_t*>(bytes.data()), values.data(), n);
  }
  return bytes;
}

double worst_error(const Case& c, const Bf16Tiles* tiles = nullptr) {
  const int64_t n_keys = c.first + c.n_tokens;
  const auto q = random_floats(c.n_tokens * c.n_group * c.d_k, 1);
  auto k = random_floats(n_keys * c.d_k, 2), v = random_floats(n_keys * c.d_v, 3);
  const auto k_rows = rows_of(c.type, k, c.d_k), v_rows = rows_of(c.type, v, c.d_v);
  const auto out = attend(c, q, k_rows, v_rows, tiles);
  double worst = 0;
  for (int64_t r = 0; r < c.n_tokens * c.n_group; ++r) {
    const int64_t n_seen = c.first + r / c.n_group + 1;
    std::vector<double> p, mean(static_cast<size_t>(c.d_v));
    double max = -1e300, sum = 0;
    for (int64_t i = 0; i < n_seen; ++i) {
      double s = 0;
      for (int64_t d = 0; d < c.d_k; ++d)
        s += static_cast<double>(q[static_cast<size_t>(r * c.d_k + d)]) *
             k[static_cast<size_t>(i * c.d_k + d)];
      p.push_back(s * c.scale);
      max = std::max(max, p.back());
    }
    for (double& x : p) sum += x = std::exp(x - max);
    for (int64_t i = 0; i < n_seen; ++i) {
      for (int64_t d = 0; d < c.d_v; ++d)
        mean[static_cast<size_t>(d)] +=
            p[static_cast<size_t>(i)] / sum * v[static_cast<size_t>(i * c.d_v + d)];
    }
    for (int64_t d = 0; d < c.d_v; ++d) {
      const double error = std::fabs(out[static_cast<size_t>(r * c.d_v + d)] - mean[static_cast<size_t>(d)]);
      if (!(error <= worst)) worst = error;  // also if it is no number
    }
  }
  return worst;
}

// How far an output may be off: by F32's rounding; and, where blocks of an F16 cache are multiplied in 16-bit
// integers, by what three standard deviations of their rounding make of a score, and by as much as 2e-4 else.
// A step of q and k, from N(0, 1), is sqrt(d) / 46,000.
double tolerance(const Case& c, int64_t target) {
  if (c.type != GGML_TYPE_F16 || !in_pairs(target, c.d_k) || !in_pairs(target, c.d_v)) return 1e-4;
  const auto d = static_cast<double>(c.d_k);
  return 2e-4 + 3 * static_cast<double>(c.scale) * std::sqrt(2 * d / 12) * std::sqrt(d) / 46000;
}

// Vectors must be half as long as tiles are wide, heads be whole tiles, and the last strip of tokens see a
// whole block of 128 keys: else nothing changes.
bool uses_tiles(const Case& c, int64_t target) {
  return (target & (HWY_AVX3 | HWY_AVX3_DL)) != 0 && c.type == GGML_TYPE_F16 && c.d_k % 32 == 0 &&
         c.d_v % 32 == 0 && c.first + c.n_tokens - 32 >= 127;
}

void expect_causal(std::span<const Case> cases, const Bf16Tiles* tiles) {
  with_every_instruction_set([&](int64_t target) {
    for (const Case& c : cases) {
      const double bar = tiles != nullptr && uses_tiles(c, target) ? 1.0 / 256 : tolerance(c, target);
      EXPECT_LT(worst_error(c, tiles), bar)
          << c.first << " before, group " << c.n_group << ", " << c.d_k << " dimensions";
    }
  });
}

// Tiles that start in the first block of keys, at its end, behind several; heads narrower than a vector or no
// multiple of one; scores so large that softmax picks one key.
TEST(PrefillAttention, EqualsCausalAttention) {
  const Case cases[] = {
      {0, 64, 3, 64, 64, GGML_TYPE_F16, 0.125f},   {96, 32, 7, 64, 64, GGML_TYPE_F16, 0.125f},
      {77, 32, 1, 64, 32, GGML_TYPE_F32, 0.125f},  {300, 128, 2, 80, 80, GGML_TYPE_F16, 0.1f},
      {513, 32, 4, 8, 8, GGML_TYPE_F32, 0.35f},    {128, 64, 2, 128, 128, GGML_TYPE_F16, 3.0f},
      {1000, 32, 2, 24, 40, GGML_TYPE_F16, 20.0f}, {1000, 64, 7, 64, 64, GGML_TYPE_F16, 0.125f},
      {300, 64, 1, 256, 32, GGML_TYPE_F16, 0.06f}, {300, 64, 2, 128, 128, GGML_TYPE_F32, 3.0f},
  };
  expect_causal(cases, nullptr);
}

// Keys and values lose nothing in tiles, queries 2^-17 of an element, which counts where scores are large.
// Weights of a softmax are rounded by up to 2^-8 of theirs.
TEST(PrefillAttention, InTilesEqualsCausalAttention) {
  const Case cases[] = {
      {96, 64, 3, 64, 64, GGML_TYPE_F16, 0.125f},   {1000, 64, 7, 64, 64, GGML_TYPE_F16, 0.125f},
      {127, 32, 2, 32, 96, GGML_TYPE_F16, 0.2f},    {128, 64, 2, 128, 128, GGML_TYPE_F16, 3.0f},
      {300, 64, 1, 256, 32, GGML_TYPE_F16, 0.06f},  {300, 64, 2, 64, 64, GGML_TYPE_F32, 0.125f},
      {1000, 32, 2, 64, 40, GGML_TYPE_F16, 0.125f}, {700, 32, 2, 64, 128, GGML_TYPE_F16, 20.0f},
  };
  for (const Bf16Tiles* tiles : all_tiles()) expect_causal(cases, tiles);
}

// One key is all that a query sees: its value comes out as it lies in the cache.
TEST(PrefillAttention, InTilesNoBitOfAValueIsLost) {
  const Case c = {128, 32, 1, 64, 64, GGML_TYPE_F16, 1.0f};
  std::vector<float> q(32 * 64), k(160 * 64), v = random_floats(160 * 64, 3);
  for (size_t i = 0; i < q.size(); i += 64) q[i] = 1000;
  k[77 * 64] = 1;
  const auto k_rows = rows_of(c.type, k, 64), v_rows = rows_of(c.type, v, 64);
  with_every_instruction_set([&](int64_t target) {
    if (!uses_tiles(c, target)) return;
    for (const Bf16Tiles* tiles : all_tiles()) {
      const auto out = attend(c, q, k_rows, v_rows, tiles);
      for (int64_t t = 0; t < 32; ++t)
        EXPECT_TRUE(std::equal(out.begin() + t * 64, out.begin() + (t + 1) * 64, v.begin() + 77 * 64)) << t;
    }
  });
}

// A token's bits are its own, whatever tile it comes in.
void expect_same_bits_in_any_tile(const Bf16Tiles* tiles) {
  const Case whole = {200, 128, 3, 64, 64, GGML_TYPE_F16, 0.125f};
  const auto q = random_floats(128 * 3 * 64, 1);
  auto k = random_floats(328 * 64, 2), v = random_floats(328 * 64, 3);
  const auto k_rows = rows_of(whole.type, k, 64), v_rows = rows_of(whole.type, v, 64);
  const auto expected = attend(whole, q, k_rows, v_rows, tiles);
  for (int64_t t = 0; t < 128; t += 32) {
    Case part = whole;
    part.first += t;
    part.n_tokens = 32;
    const auto out = attend(part, {q.begin() + t * 192, q.begin() + (t + 32) * 192}, k_rows, v_rows, tiles);
    EXPECT_TRUE(std::equal(out.begin(), out.end(), expected.begin() + t * 192)) << "token " << t;
  }
}

TEST(PrefillAttention, SameBitsInAnyTile) {
  expect_same_bits_in_any_tile(nullptr);
  for (const Bf16Tiles* tiles : all_tiles()) expect_same_bits_in_any_tile(tiles);
}

}  // namespace
}  // namespace curdkv::testing
