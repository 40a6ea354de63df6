// What benchmarks reckon with: the least work a test takes, the machine's limits, resident memory.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cmath>
#include <cstring>

#include "compute/bf16_tiles.h"
#include "compute/products/kernel.h"
#include "measure/bench.h"
#include "measure/cost.h"
#include "measure/machine.h"
#include "measure/memory.h"
#include "support/must.h"
#include "support/tiny_model.h"

namespace curdkv::measure {
namespace {

using testing::must;
using testing::TinyModel;

TEST(Cost, CountsEveryMatrixOnce) {
  // Per layer Q and O 64 x 64, K and V 64 x 32, and three of 64 x 96; the output matrix is the embedding's.
  const std::string path = testing::write_tiny_model({}, testing::temp_path("cost.gguf"));
  const Model model = must(Model::load(path));
  const double layer = 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 96,
               n_vocab = static_cast<double>(model.info().n_vocab);
  const Cost cost(model);
  EXPECT_FALSE(cost.is_quantised() || cost.fits_bf16());
  EXPECT_EQ(cost.decode_bytes(0, 0), 4 * (2 * layer + 64 * n_vocab));
  EXPECT_EQ(cost.decode_bytes(100, 64), cost.decode_bytes(0, 0) + 6400);
  // One token behind 10 cached ones: 2 layers of 2 KV heads with 2 query heads each, K and V of 16.
  const double attention = 2 * 2 * 2 * (10 + 1) * 2 * (16 + 16);
  EXPECT_EQ(cost.operations(1, 2 * 2 * 10), 2 * (2 * layer + 64 * n_vocab) + attention);
  // Three tokens from nothing see 1, 2 and 3 rows; logits of the last alone.
  EXPECT_EQ(cost.operations(3, 0),
            2 * (3 * 2 * layer + 64 * n_vocab) + 2 * 2 * 2 * (1 + 2 + 3) * 2 * (16 + 16));
}

TEST(Cost, LayersThatDiffer) {
  const Model model = must(
      Model::load(testing::write_tiny_model(testing::unequal_layers(), testing::temp_path("uneq.gguf"))));
  double layers = 0;
  for (const auto& [n_head, n_head_kv, n_ff] : {std::tuple{6, 3, 96}, {4, 4, 64}, {8, 2, 160}})
    layers += 64 * (2 * 16 * n_head + 2 * 16 * n_head_kv + 3 * n_ff);
  const double n_vocab = static_cast<double>(model.info().n_vocab);
  const Cost cost(model);
  EXPECT_EQ(cost.n_heads_kv(), 3 + 4 + 2);
  EXPECT_EQ(cost.decode_bytes(0, 0), 4 * (layers + 64 * n_vocab));
  // One token behind 10 cached ones: each query head sees 11 rows of K and V.
  EXPECT_DOUBLE_EQ(cost.operations(1, 9 * 10),
                   2 * (layers + 64 * n_vocab) + (6 + 4 + 8) * 11 * 2 * (16 + 16));
}

TEST(Cost, QuantizedWeightsAndAnOutputMatrix) {
  TinyModel shape;
  shape.type = GGML_TYPE_Q8_0;
  shape.tied = false;
  const std::string path = testing::write_tiny_model(shape, testing::temp_path("cost_q8.gguf"));
  const Model model = must(Model::load(path));
  const double layer = 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 96,
               n_vocab = static_cast<double>(model.info().n_vocab);
  EXPECT_TRUE(Cost(model).is_quantised());
  EXPECT_TRUE(Cost(model).fits_bf16());
  EXPECT_EQ(Cost(model).decode_bytes(0, 0), 34.0 / 32 * (2 * layer + 64 * n_vocab));
}

TEST(Machine, LimitsArePlausible) {
  const Machine machine(2, size_t{8} << 20);
  for (const double limit : {machine.read_gb_s(), machine.f32_gflops(), machine.int16_gops(),
                             machine.int8_gops() + 1, machine.bf16_gops() + 1}) {
    EXPECT_GT(limit, 0.01);
    EXPECT_LT(limit, 1e5);
  }
}

TEST(Machine, DotProductsInEightBitsAreFasterThanFloats) {
  const Machine machine(1, size_t{1} << 20);
  if (!make_int8_kernel()) {
    EXPECT_EQ(machine.int8_gops(), 0);
    GTEST_SKIP() << "no kernel in 8 bits: neither AVX2 nor NEON's dot products";
  }
  double most = 0;  // of ratios, as other work may come between
  for (int i = 0; i < 5; ++i) most = std::max(most, machine.int8_gops() / machine.f32_gflops());
  EXPECT_GT(most, 1.2);
}

TEST(Machine, BlocksInBf16AreFasterThanFloats) {
  const Machine machine(1, size_t{1} << 20);
  if (amx_tiles() == nullptr) {
    EXPECT_EQ(machine.bf16_gops(), 0);
    GTEST_SKIP() << "no AMX";
  }
  EXPECT_GT(machine.bf16_gops(), 2 * machine.f32_gflops());
}

TEST(Memory, PeakSeesWhatHasGoneAgain) {
  const auto before = resident_bytes();
  if (!before || !reset_peak()) GTEST_SKIP() << "this system does not tell resident memory";
  constexpr size_t kBytes = size_t{64} << 20;
  // Straight from the system: an allocator may hold on to what it is given back.
  void* big = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(big, MAP_FAILED);
  std::memset(big, 1, kBytes);
  EXPECT_GE(*resident_bytes(), *before + kBytes * 9 / 10);
  munmap(big, kBytes);
  EXPECT_GE(*peak_resident_bytes(), *before + kBytes * 9 / 10);
  ASSERT_TRUE(reset_peak());
  EXPECT_LE(*peak_resident_bytes(), *before + kBytes / 2);
}

TEST(Row, MedianAndSpread) {
  Row row;
  row.ts = {4, 1, 7, 2};
  EXPECT_EQ(row.median_ts(), 3);
  EXPECT_EQ(row.avg_ts(), 3.5);
  EXPECT_NEAR(row.stddev_ts(), std::sqrt(21.0 / 3), 1e-12);
  row.ts = {5};
  EXPECT_EQ(row.stddev_ts(), 0);
}

}  // namespace
}  // namespace curdkv::measure
