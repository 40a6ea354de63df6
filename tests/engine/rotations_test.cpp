// Rotations on the host are the model's.
#include "engine/rotations.h"

#include <gtest/gtest.h>

#include <cmath>

#include "model/layer_blocks.h"
#include "support/must.h"
#include "support/score.h"

namespace curdkv::testing {
namespace {

constexpr int64_t kRows = 5, kHead = 24;  // of whose dimensions the first 16 are rotated

RopeParams rope_of(RopePairing pairing, bool yarn) {
  RopeParams rope;
  rope.pairing = pairing;
  rope.n_rot = 16;
  if (yarn) {
    rope.freq_scale = 0.25f;
    rope.ext_factor = 1;
    rope.n_ctx_orig = 64;
  }
  return rope;
}

// What ggml makes of x, [kHead] each.
std::vector<float> rotated(Compute& compute, const RopeParams& rope, const std::vector<float>& x,
                           const std::vector<int32_t>& by, bool longer) {
  ggml_context* ctx = must(compute.begin());
  ggml_tensor* rows = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, kHead, 1, kRows);
  ggml_tensor* turns = ggml_new_tensor_1d(ctx, GGML_TYPE_I32, kRows);
  ggml_set_input(rows);
  ggml_set_input(turns);
  ggml_tensor* out = longer ? rotate(ctx, rope, nullptr, rows, turns)
                            : rotate_keeping_length(ctx, rope, nullptr, rows, turns, 1);
  ggml_set_output(out);
  ggml_build_forward_expand(compute.graph(), out);
  must(compute.allocate());
  Compute::set(rows, x);
  Compute::set(turns, by);
  must(compute.run());
  std::vector<float> y(x.size());
  ggml_backend_tensor_get(out, y.data(), 0, ggml_nbytes(out));
  return y;
}

double length(const float* x) {
  double squares = 0;
  for (int64_t d = 0; d < kHead; ++d) squares += x[d] * x[d];
  return std::sqrt(squares);
}

TEST(Rotations, AreTheModels) {
  const auto compute = make_compute(1);
  const std::vector<float> x = random_floats(kRows * kHead, 3);
  const std::vector<int32_t> by = {0, 1, -7, 4000, 63};
  for (const RopePairing pairing : {RopePairing::interleaved, RopePairing::neox}) {
    for (const bool yarn : {false, true}) {
      for (const bool longer : {false, true}) {
        const RopeParams rope = rope_of(pairing, yarn);
        const std::vector<float> expected = rotated(*compute, rope, x, by, longer);
        const Rotations rotations = must(Rotations::make(*compute, rope, nullptr, by, longer));
        std::vector<float> y = x;
        for (int64_t i = 0; i < kRows; ++i) {
          rotations.apply(i, y.data() + i * kHead);
          const double ratio = length(y.data() + i * kHead) / length(x.data() + i * kHead);
          EXPECT_EQ(longer && yarn, ratio > 1.01) << ratio;
        }
        for (size_t i = 0; i < y.size(); ++i) EXPECT_NEAR(y[i], expected[i], 2e-6f) << i;
      }
    }
  }
}

TEST(Rotations, AreMadeOnceForTheSameTurns) {
  const auto compute = make_compute(1);
  const RopeParams rope = rope_of(RopePairing::neox, false);
  RotationCache cache;
  const Rotations* first = must(cache.keeping_length(*compute, rope, nullptr, {1, 2}));
  const float cos = first->cos(1, 3);
  EXPECT_EQ(must(cache.keeping_length(*compute, rope, nullptr, {1, 2}))->cos(1, 3), cos);
  const Rotations* other = must(cache.keeping_length(*compute, rope, nullptr, {1, 5}));
  EXPECT_NE(other->cos(1, 3), cos);
  EXPECT_EQ(other->by()[1], 5);
}

}  // namespace
}  // namespace curdkv::testing
