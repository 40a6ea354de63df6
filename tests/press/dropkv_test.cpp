// DropKV where one token takes nearly all of a query's attention: its value and the attention's output are
// then alike to rounding, and what matters is their difference. (Other scores: goldens_test.)
#include <gtest/gtest.h>

#include <cmath>

#include "support/must.h"
#include "support/score.h"

namespace curdkv::testing {
namespace {

constexpr size_t kTokens = 96, kDim = 64, kWindow = 32, kTaken = 40;

// What evicting the taken token moves the last queries' outputs by, squared and added up, each output
// computed anew without it.
double moved_without(const LayerData& data) {
  const auto logit = [&](size_t query, size_t key) {
    double sum = 0;
    for (size_t i = 0; i < kDim; ++i)
      sum += static_cast<double>(data.queries[query * kDim + i]) *
             static_cast<double>(data.keys[key * kDim + i]);
    return sum / std::sqrt(static_cast<double>(kDim));
  };
  double all = 0;
  for (size_t query = kTokens - kWindow; query < kTokens; ++query) {
    std::vector<double> with(kDim, 0.0), without(kDim, 0.0);
    const double taken = logit(query, kTaken);
    double others = 0;
    for (size_t t = 0; t <= query; ++t) {
      if (t != kTaken) others += std::exp(logit(query, t) - taken);
    }
    for (size_t t = 0; t <= query; ++t) {
      const double weight = std::exp(logit(query, t) - taken);
      for (size_t i = 0; i < kDim; ++i) {
        const double v = static_cast<double>(data.values[t * kDim + i]);
        with[i] += weight / (1 + others) * v;
        if (t != kTaken) without[i] += weight / others * v;
      }
    }
    for (size_t i = 0; i < kDim; ++i) all += (with[i] - without[i]) * (with[i] - without[i]);
  }
  return all;
}

TEST(DropKv, WhatTakesNearlyAllAttentionIsScoredExactly) {
  for (const float strength : {1.0f, 6.0f, 10.0f, 14.0f}) {  // 1 - p from nearly 1 to 3e-8
    std::mt19937 rng(7);
    std::normal_distribution<float> normal;
    LayerData data{
        static_cast<int64_t>(kTokens), 1, 1, static_cast<int64_t>(kDim), GGML_TYPE_F32, {}, {}, {}, {}};
    for (std::vector<float>* rows : {&data.keys, &data.values, &data.queries}) {
      for (size_t i = 0; i < kTokens * kDim; ++i) rows->push_back(normal(rng));
    }
    const float along = strength / std::sqrt(static_cast<float>(kDim));
    for (size_t query = kTokens - kWindow; query < kTokens; ++query) {
      for (size_t i = 0; i < kDim; ++i)
        data.queries[query * kDim + i] += along * 1.6f * data.keys[kTaken * kDim + i];
    }
    // epsilon=0 and kernel=1: the movement itself.
    const auto scores = TestLayer(data).scores(make_press("dropkv:epsilon=0:kernel=1", 0.5));
    const double expected = moved_without(data);
    EXPECT_NEAR(static_cast<double>(scores[kTaken]) / expected, 1, 1e-3) << strength;
  }
}

}  // namespace
}  // namespace curdkv::testing
