// Products with quantised weights, of a prefill and of decoding, against sums in double precision over what
// ggml unpacks.
#include <gtest/gtest.h>

#include <ggml-cpu.h>

#include <cmath>

#include "base/cpu.h"
#include "compute/products/int8_unpack.h"
#include "compute/products/kernel.h"
#include "compute/products/question_products.h"
#include "compute/products/row_kernel.h"
#include "support/emulated_tiles.h"
#include "support/must.h"
#include "support/score.h"

namespace curdkv::testing {
namespace {

constexpr ggml_type kTypes[] = {GGML_TYPE_Q4_0, GGML_TYPE_Q4_1, GGML_TYPE_Q5_0,   GGML_TYPE_Q5_1,
                                GGML_TYPE_Q8_0, GGML_TYPE_Q2_K, GGML_TYPE_Q3_K,   GGML_TYPE_Q4_K,
                                GGML_TYPE_Q5_K, GGML_TYPE_Q6_K, GGML_TYPE_IQ4_NL, GGML_TYPE_IQ4_XS,
                                GGML_TYPE_MXFP4};

struct Weights {
  std::vector<char> bytes;
  std::vector<float> floats;  // [n_out][n_in], as ggml unpacks them
  WeightMatrix matrix;
};

Weights quantised(ggml_type type, const std::vector<float>& values, int64_t n_in) {
  ggml_cpu_init();
  const auto n = static_cast<int64_t>(values.size()), n_out = n / n_in;
  Weights w;
  w.bytes.resize(ggml_row_size(type, n_in) * static_cast<size_t>(n_out));
  ggml_quantize_chunk(type, values.data(), w.bytes.data(), 0, n_out, n_in, nullptr);
  w.floats.resize(values.size());
  ggml_get_type_traits(type)->to_float(w.bytes.data(), w.floats.data(), n);
  w.matrix = {type, w.bytes.data(), n_in, n_out};
  return w;
}

Weights make_weights(ggml_type type, int64_t n_in, int64_t n_out) {
  auto random = random_floats(n_in * n_out, 7);
  for (size_t i = 0; i < random.size(); i += 97) random[i] *= 20;  // blocks of different ranges
  return quantised(type, random, n_in);
}

// Inputs that 8 bits hold exactly, so that nothing but the products is tested: in each block integers up to
// 127 times a power of two.
std::vector<float> exact_inputs(int64_t n) {
  auto x = random_floats(n, 9);
  for (size_t i = 0; i < x.size(); ++i) {
    const float unit = std::ldexp(1.0f, static_cast<int>(i / 32 % 5) - 6);
    x[i] = i % 32 == 5 ? -127 * unit : std::round(std::fmod(x[i] * 50, 127.0f)) * unit;
  }
  return x;
}

double relative_error(const Weights& w, const float* x, const float* y) {
  double worst = 0;
  for (int64_t r = 0; r < w.matrix.n_out; ++r) {
    double sum = 0, size = 0;
    for (int64_t i = 0; i < w.matrix.n_in; ++i) {
      const double product = static_cast<double>(w.floats[static_cast<size_t>(r * w.matrix.n_in + i)]) * x[i];
      sum += product;
      size += product * product;
    }
    const double error = std::fabs(y[r] - sum) / std::sqrt(size);
    if (!(error <= worst)) worst = error;  // also if it is no number
  }
  return worst;
}

constexpr double kBar = 4e-6;  // of sums in F32

constexpr size_t kRowStride = 120;
constexpr float kUntouched = 1e30f;

// Rows of results kRowStride apart, and one more than there are tokens.
std::vector<float> multiply(const ProductKernel& kernel, const WeightMatrix& w, const std::vector<float>& x,
                            int64_t n_tokens) {
  EXPECT_TRUE(kernel.takes(w));
  const int64_t n_panels = w.n_out / kernel.panel_rows(), tile = kernel.tile_tokens(),
                n_tiles = (n_tokens + tile - 1) / tile;
  const size_t panel = kernel.panel_bytes(w), packed = kernel.tile_bytes(w.n_in);
  std::vector<char> memory(panel * static_cast<size_t>(n_panels) + 64);
  char* panels = memory.data() + 64 - reinterpret_cast<uintptr_t>(memory.data()) % 64;
  std::vector<char> tiles(packed * static_cast<size_t>(n_tiles));
  std::vector<char> scratch(kernel.unpack_scratch_bytes(w) + kernel.multiply_scratch_bytes(w, n_tokens));
  for (int64_t p = 0; p < n_panels; ++p)
    kernel.unpack(w, p, panels + static_cast<size_t>(p) * panel, scratch.data());
  for (int64_t t = 0; t < n_tiles; ++t) {
    kernel.pack(x.data() + t * tile * w.n_in, static_cast<size_t>(w.n_in), w.n_in,
                std::min(tile, n_tokens - t * tile), tiles.data() + static_cast<size_t>(t) * packed);
  }
  std::vector<float> y(kRowStride * static_cast<size_t>(n_tokens + 1), kUntouched);
  kernel.multiply(w, panels, n_panels, tiles.data(), n_tokens, y.data(), kRowStride, scratch.data());
  return y;
}

class Types : public ::testing::TestWithParam<ggml_type> {};
class TilesTypes : public Types {};

TEST_P(Types, UnpackToTheirOwnValues) {
  if (!make_int8_kernel()) GTEST_SKIP() << "no kernel in 8 bits: neither AVX2 nor NEON's dot products";
  const Weights w = make_weights(GetParam(), 512, 4);
  std::vector<Int8Block> blocks(16);
  std::vector<float> floats(512);
  for (int64_t r = 0; r < 4; ++r) {
    unpack_row(w.matrix, r, blocks, floats.data());
    for (size_t b = 0; b < blocks.size(); ++b) {
      EXPECT_TRUE(has_minima(GetParam()) || blocks[b].min == 0);
      const float* expected = &w.floats[static_cast<size_t>(r) * 512 + b * 32];
      float most = 0;
      for (size_t i = 0; i < 32; ++i) most = std::max(most, std::fabs(expected[i]));
      // Other types are quantised anew: half a step of 127.
      const float bar = unpacks_exactly(GetParam()) ? 3e-7f : 0.51f / 127;
      for (size_t i = 0; i < 32; ++i) {
        EXPECT_NEAR(blocks[b].scale * blocks[b].q[i] + blocks[b].min, expected[i], most * bar);
      }
    }
  }
}

// 80 rows are five panels, of which the last has no neighbour; 13 tokens are two tiles and one token.
TEST_P(Types, MultiplyInPrefill) {
  const auto kernel = make_int8_kernel();
  if (!kernel) GTEST_SKIP() << "no kernel in 8 bits: neither AVX2 nor NEON's dot products";
  Weights w = make_weights(GetParam(), 768, 80);
  std::vector<Int8Block> blocks(24);  // what they are worth here, see above
  std::vector<float> floats(768);
  for (size_t r = 0; r < 80; ++r) {
    unpack_row(w.matrix, static_cast<int64_t>(r), blocks, floats.data());
    for (size_t i = 0; i < 768; ++i) {
      const Int8Block& b = blocks[i / 32];
      w.floats[r * 768 + i] = b.scale * b.q[i % 32] + b.min;
    }
  }
  const auto x = exact_inputs(768 * 13);
  const auto y = multiply(*kernel, w.matrix, x, 13);
  for (size_t t = 0; t < 13; ++t) {
    EXPECT_LT(relative_error(w, x.data() + t * 768, y.data() + t * kRowStride), kBar) << "token " << t;
    EXPECT_EQ(y[t * kRowStride + 80], kUntouched);
  }
  EXPECT_EQ(y[13 * kRowStride], kUntouched);
}

// In BF16, in plain C++ and, where there is AMX, by it. 96 rows are three panels; 70 tokens are two tiles and
// some of a third.
TEST_P(TilesTypes, MultiplyInPrefill) {
  const Weights w = make_weights(GetParam(), 768, 96);
  const auto x = random_floats(768 * 70, 9);
  Weights rounded = w;
  auto rounded_x = x;
  for (auto* values : {&rounded.floats, &rounded_x}) {
    for (float& v : *values) v = ggml_bf16_to_fp32(ggml_fp32_to_bf16(v));
  }
  for (const Bf16Tiles* tiles : all_tiles()) {
    const auto kernel = make_bf16_kernel(tiles);
    const auto y = multiply(*kernel, w.matrix, x, 70);
    for (size_t t = 0; t < 70; ++t) {
      EXPECT_LT(relative_error(rounded, rounded_x.data() + t * 768, y.data() + t * kRowStride), kBar)
          << "token " << t;
      EXPECT_EQ(y[t * kRowStride + 96], kUntouched);
    }
    EXPECT_EQ(y[70 * kRowStride], kUntouched);
  }
}

TEST_P(TilesTypes, AreCloserThanEightBits) {
  const auto in_8_bits = make_int8_kernel();
  if (!in_8_bits || !ggml_is_quantized(GetParam())) GTEST_SKIP() << "no products in 8 bits";
  const Weights w = make_weights(GetParam(), 768, 96);
  const auto x = random_floats(768 * 32, 9);
  const auto worst = [&](const ProductKernel& kernel) {
    const auto y = multiply(kernel, w.matrix, x, 32);
    double error = 0;
    for (size_t t = 0; t < 32; ++t)
      error = std::max(error, relative_error(w, x.data() + t * 768, y.data() + t * kRowStride));
    return error;
  };
  for (const Bf16Tiles* tiles : all_tiles()) EXPECT_LT(worst(*make_bf16_kernel(tiles)), worst(*in_8_bits));
}

TEST(Tiles, ATokenHasTheSameBitsInAnyCompany) {
  const Weights w = make_weights(GGML_TYPE_Q4_1, 96, 64);
  const auto x = random_floats(96 * 70, 9);
  for (const Bf16Tiles* tiles : all_tiles()) {
    const auto kernel = make_bf16_kernel(tiles);
    const auto together = multiply(*kernel, w.matrix, x, 70);
    for (const int64_t n : {1, 31, 32, 33, 64}) {
      const int64_t first = 70 - n;
      const auto some = multiply(*kernel, w.matrix, {x.begin() + first * 96, x.end()}, n);
      for (int64_t t = 0; t < n; ++t) {
        const auto at = some.begin() + t * static_cast<int64_t>(kRowStride);
        EXPECT_TRUE(
            std::equal(at, at + 64, together.begin() + (first + t) * static_cast<int64_t>(kRowStride)))
            << "token " << first + t << " of " << n;
      }
    }
  }
}

TEST(Tiles, BlocksAreCounted) {
  EXPECT_EQ(multiply_blocks(kEmulatedTiles, 3), 3 * 2.0 * 8 * 32 * 32 * 32);
}

TEST(Tiles, WhatTheyTake) {
  const auto kernel = make_bf16_kernel(&kEmulatedTiles);
  EXPECT_TRUE(kernel->takes({GGML_TYPE_Q8_0, nullptr, 96, 64}));
  EXPECT_TRUE(kernel->takes({GGML_TYPE_BF16, nullptr, 96, 64}));
  EXPECT_FALSE(kernel->takes({GGML_TYPE_BF16, nullptr, 80, 64})) << "half a step along k";
  EXPECT_FALSE(kernel->takes({GGML_TYPE_Q8_0, nullptr, 96, 80})) << "half a panel";
  EXPECT_FALSE(kernel->takes({GGML_TYPE_F16, nullptr, 96, 64})) << "which BF16 would round";
  EXPECT_FALSE(kernel->takes({GGML_TYPE_F32, nullptr, 96, 64})) << "which BF16 would round";
  EXPECT_EQ(make_bf16_kernel(nullptr), nullptr);
}

// All instruction sets have the bits of this loop, of 80 rows of 768 weights and 13 tokens.
void expect_sums_of_blocks(const ProductKernel& kernel, const Weights& w, const std::vector<float>& x) {
  const std::vector<float> y = multiply(kernel, w.matrix, x, 13);
  std::vector<Int8Block> blocks(24);
  std::vector<float> floats(768);
  std::vector<RowInput> inputs(24);
  for (size_t t = 0; t < 13; ++t) {
    quantise_input(x.data() + t * 768, 768, reinterpret_cast<char*>(inputs.data()));
    for (size_t r = 0; r < 80; ++r) {
      unpack_row(w.matrix, static_cast<int64_t>(r), blocks, floats.data());
      float sum = 0;
      for (size_t b = 0; b < 24; ++b) {
        int dot = 0;
        for (size_t i = 0; i < 32; ++i) dot += blocks[b].q[i] * inputs[b].q[i];
        sum = std::fma(static_cast<float>(dot), blocks[b].scale * inputs[b].scale, sum);
        if (has_minima(w.matrix.type)) sum = std::fma(blocks[b].min, inputs[b].sum, sum);
      }
      ASSERT_EQ(y[t * kRowStride + r], sum) << "token " << t << ", row " << r;
    }
  }
}

TEST_P(Types, PrefillAddsUpBlockByBlock) {
  const auto kernel = make_int8_kernel();
  if (!kernel) GTEST_SKIP() << "no kernel in 8 bits: neither AVX2 nor NEON's dot products";
  expect_sums_of_blocks(*kernel, make_weights(GetParam(), 768, 80), random_floats(768 * 13, 9));
}

// Nothing overflows: nearly all weights of a block are its highest, all inputs the largest.
TEST_P(Types, PrefillAddsUpOutermostValues) {
  const auto kernel = make_int8_kernel();
  if (!kernel) GTEST_SKIP() << "no kernel in 8 bits: neither AVX2 nor NEON's dot products";
  for (const float highest : {1.0f, -1.0f}) {
    std::vector<float> values(768 * 80, highest), x(768 * 13);
    for (size_t i = 0; i < values.size(); i += 32) values[i] = -16 / 15.0f * highest;
    for (size_t i = 0; i < x.size(); ++i) x[i] = i / 768 % 2 == 0 ? 1.0f : -1.0f;
    expect_sums_of_blocks(*kernel, quantised(GetParam(), values, 768), x);
  }
}

// By a graph, with weights unpacked on the way: several runs of panels, the last one short, on two threads; a
// column's bits do not depend on those beside it.
TEST_P(Types, MultiplyInQuestions) {
  const auto kernel = make_int8_kernel();
  if (!kernel) GTEST_SKIP() << "no kernel in 8 bits: neither AVX2 nor NEON's dot products";
  if (!unpacks_exactly(GetParam())) GTEST_SKIP() << "left to ggml";
  constexpr int64_t kOut = 16 * 21;
  const auto x = exact_inputs(768 * 13);
  const Weights w = make_weights(GetParam(), 768, kOut);
  const auto compute = make_compute();
  const GgmlContext held = make_ggml_context(1);
  ggml_tensor* weights = ggml_new_tensor_2d(held.get(), GetParam(), 768, kOut);
  const GgmlBuffer buffer(
      ggml_backend_alloc_ctx_tensors_from_buft(held.get(), ggml_backend_cpu_buffer_type()));
  ggml_backend_tensor_set(weights, w.bytes.data(), 0, w.bytes.size());
  std::vector<std::vector<float>> results;
  for (const int64_t n : {13, 5}) {
    ggml_context* ctx = must(compute->begin());
    QuestionProducts products(*compute, kernel.get());
    ggml_tensor* inputs = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, 768, n);
    ggml_set_input(inputs);
    ggml_tensor* out = products.multiply(ctx, weights, inputs);
    EXPECT_EQ(out->op, GGML_OP_CUSTOM);
    ggml_build_forward_expand(compute->graph(), out);
    must(compute->allocate());
    ggml_backend_tensor_set(inputs, x.data(), 0, ggml_nbytes(inputs));
    must(compute->run());
    results.emplace_back(static_cast<size_t>(kOut * n));
    ggml_backend_tensor_get(out, results.back().data(), 0, ggml_nbytes(out));
  }
  for (size_t t = 0; t < 13; ++t)
    EXPECT_LT(relative_error(w, x.data() + t * 768, results[0].data() + t * kOut), kBar) << "token " << t;
  EXPECT_TRUE(std::equal(results[1].begin(), results[1].end(), results[0].begin()));
}

TEST_P(Types, MultiplyInDecoding) {
  if (!row_kernel_takes(GetParam(), 768)) GTEST_SKIP() << "left to ggml";
  const Weights w = make_weights(GetParam(), 768, 70);
  const auto x = exact_inputs(768);
  std::vector<char> inputs(row_input_bytes(768));
  quantise_input(x.data(), 768, inputs.data());
  std::vector<float> y(71, 1e30f);
  multiply_rows(GetParam(), w.bytes.data(), 70, 768, inputs.data(), 1, y.data(), 70);
  EXPECT_LT(relative_error(w, x.data(), y.data()), kBar);
  EXPECT_EQ(y[70], 1e30f);
}

// Tokens decoded together have the bits that each has alone.
TEST_P(Types, DecodingTogetherChangesNoBit) {
  if (!row_kernel_takes(GetParam(), 768)) GTEST_SKIP() << "left to ggml";
  constexpr int64_t kMost = 9;
  const Weights w = make_weights(GetParam(), 768, 70);
  const auto x = random_floats(768 * kMost, 7);
  const size_t bytes = row_input_bytes(768);
  std::vector<char> inputs(kMost * bytes);
  std::vector<float> alone(71 * kMost, 1e30f);
  for (size_t c = 0; c < kMost; ++c) {
    quantise_input(x.data() + c * 768, 768, inputs.data() + c * bytes);
    multiply_rows(GetParam(), w.bytes.data(), 70, 768, inputs.data() + c * bytes, 1, alone.data() + c * 71,
                  71);
  }
  for (int64_t n = 1; n <= kMost; ++n) {
    std::vector<float> together(71 * kMost, 1e30f);
    multiply_rows(GetParam(), w.bytes.data(), 70, 768, inputs.data(), n, together.data(), 71);
    const auto end = 71 * n;
    EXPECT_TRUE(std::equal(together.begin(), together.begin() + end, alone.begin())) << n << " columns";
    EXPECT_EQ(together[static_cast<size_t>(end) - 1], 1e30f) << "beyond the last row";
  }
}

TEST(Products, InputsOfZerosGiveZeros) {
  if (!row_kernel_takes(GGML_TYPE_Q8_0, 64))
    GTEST_SKIP() << "no kernel in 8 bits: neither AVX2 nor NEON's dot products";
  const Weights w = make_weights(GGML_TYPE_Q8_0, 64, 16);
  const std::vector<float> x(64, 0.0f);
  std::vector<float> y(16, 1.0f);
  std::vector<char> inputs(row_input_bytes(64));
  quantise_input(x.data(), 64, inputs.data());
  multiply_rows(GGML_TYPE_Q8_0, w.bytes.data(), 16, 64, inputs.data(), 1, y.data(), 16);
  EXPECT_EQ(y, std::vector<float>(16, 0.0f));
}

// Wherever there is a kernel at all, so that the skips above hide none of them.
TEST(Products, DecodingTakesTypesThatUnpackExactlyAndQ6K) {
  const bool has_kernel = make_int8_kernel() != nullptr;
  for (const ggml_type type : kTypes) {
    const bool has_format = unpacks_exactly(type) || type == GGML_TYPE_Q6_K;
    EXPECT_EQ(row_kernel_takes(type, 768), has_kernel && has_format) << ggml_type_name(type);
  }
}

const auto name_of = [](const auto& i) { return std::string(ggml_type_name(i.param)); };
INSTANTIATE_TEST_SUITE_P(Quantised, Types, ::testing::ValuesIn(kTypes), name_of);
INSTANTIATE_TEST_SUITE_P(Quantised, TilesTypes, ::testing::ValuesIn(kTypes), name_of);
INSTANTIATE_TEST_SUITE_P(Plain, TilesTypes, ::testing::Values(GGML_TYPE_BF16), name_of);

}  // namespace
}  // namespace curdkv::testing
