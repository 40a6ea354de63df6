// What figures say of attention, against an independent program in double precision (tests/reference).
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "analysis/key_loss.h"
#include "analysis/reconstruction.h"
#include "eval/statistics.h"
#include "support/golden.h"
#include "support/must.h"
#include "support/score.h"

namespace curdkv::testing {
namespace {

using namespace curdkv::analysis;
using Json = nlohmann::json;

LayerRows rows_of(const Golden& golden) {
  LayerRows rows;
  rows.n_tokens = golden.tensor("keys")->ne[1];
  rows.n_head_kv = golden.tensor("keys")->ne[2];
  rows.n_head = golden.tensor("queries")->ne[2];
  rows.d_k = golden.tensor("keys")->ne[0];
  rows.d_v = golden.tensor("values")->ne[0];
  rows.q = golden.data<float>("queries");
  rows.k = golden.data<float>("keys");
  rows.v = golden.data<float>("values");
  for (float& x : rows.q) x /= std::sqrt(static_cast<float>(rows.d_k));
  return rows;
}

LayerRows random_rows(int64_t n_tokens, int64_t n_head, int64_t n_head_kv, int64_t d, int seed, float scale) {
  LayerRows rows = {n_tokens, n_head, n_head_kv, d, d, {}, {}, {}};
  const auto s = static_cast<unsigned>(seed);
  rows.q = random_floats(n_tokens * n_head * d, 3 * s);
  rows.k = random_floats(n_tokens * n_head_kv * d, 3 * s + 1);
  rows.v = random_floats(n_tokens * n_head_kv * d, 3 * s + 2);
  for (float& x : rows.q) x *= scale;
  return rows;
}

KeptTokens kept_of(const Golden& golden, const std::string& name) {
  const ggml_tensor* t = golden.tensor("kept." + name);
  const auto data = golden.data<int32_t>("kept." + name);
  KeptTokens out;
  for (int64_t h = 0; h < t->ne[1]; ++h)
    out.emplace_back(data.begin() + h * t->ne[0], data.begin() + (h + 1) * t->ne[0]);
  return out;
}

void expect_near(double got, const Json& expected, const std::string& what) {
  const auto x = expected.get<double>();
  EXPECT_NEAR(got, x, 1e-4 * std::abs(x) + 1e-9) << what;
}

class Analysis : public ::testing::TestWithParam<int> {
 protected:
  Golden golden{GetParam() == 0 ? "layer00.gguf" : "layer14.gguf"};
  LayerRows rows = rows_of(golden);
  Json expected = [] {
    std::ifstream file(std::string(CURDKV_TEST_DATA) + "/analysis.json");
    return Json::parse(file)[static_cast<size_t>(GetParam())];
  }();
};

TEST_P(Analysis, KeyLosses) {
  for (const Json& head : expected["heads"]) {
    const KeyLoss got = key_losses(rows, head["head"]);
    for (size_t j = 0; j < got.loss.size(); ++j) {
      expect_near(got.attention[j], head["attention"][j], "attention to key " + std::to_string(j));
      expect_near(got.loss[j], head["loss"][j], "loss of key " + std::to_string(j));
    }
    expect_near(eval::spearman(got.attention, got.loss), head["spearman"], "Spearman");
  }
}

TEST_P(Analysis, Reconstruction) {
  std::vector<KeptTokens> selections;
  for (const Json& s : expected["reconstruction"]) selections.push_back(kept_of(golden, s["selection"]));
  ASSERT_GE(selections.size(), 4u);
  const Reconstruction got = must(reconstruct(rows, selections, 2));
  for (size_t s = 0; s < selections.size(); ++s) {
    for (size_t h = 0; h < got.norms.size(); ++h) {
      const Json& e = expected["reconstruction"][s]["heads"][h];
      const std::string what =
          expected["reconstruction"][s]["selection"].get<std::string>() + ", head " + std::to_string(h);
      expect_near(got.norms[h].qk, e["qk_norm"], what);
      expect_near(got.norms[h].output, e["output_norm"], what);
      expect_near(got.loss[s][h].qk, e["qk"], what);
      expect_near(got.loss[s][h].output, e["output"], what);
      expect_near(got.loss[s][h].output_zeroed, e["output_zeroed"], what);
      expect_near(got.loss[s][h].bound, e["bound"], what);
    }
  }
}

TEST_P(Analysis, LowRank) {
  std::vector<int64_t> ranks;
  for (const Json& l : expected["low_rank"]) ranks.push_back(l["rank"]);
  for (int64_t h = 0; h < rows.n_head_kv; ++h) {
    const std::vector<LowRank> all = must(low_rank(rows, h, ranks));
    for (size_t i = 0; i < ranks.size(); ++i) {
      const LowRank& got = all[i];
      const Json& l = expected["low_rank"][i];
      const Json& e = l["heads"][static_cast<size_t>(h)];
      const std::string what = l["rank"].dump() + " of KV head " + std::to_string(h);
      expect_near(got.keys_svd, e[0], "keys, SVD, " + what);
      expect_near(got.keys_cur, e[1], "keys, CUR, " + what);
      expect_near(got.values_svd, e[2], "values, SVD, " + what);
      expect_near(got.values_cur, e[3], "values, CUR, " + what);
      EXPECT_GE(got.keys_cur, got.keys_svd * 0.999);
      EXPECT_GE(got.values_cur, got.values_svd * 0.999);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Layers, Analysis, ::testing::Values(0, 1));

// Lemma 3.1, with evicted keys gone or zero, sharp attention or flat, few tokens kept or none at all.
TEST(Lemma, BoundIsNeverViolated) {
  for (int seed = 0; seed < 60; ++seed) {
    const int64_t n = 1 + seed * 7 % 90;
    const float sharpness = seed % 3 == 0 ? 0.01f : seed % 3 == 1 ? 0.25f : 4.0f;
    const LayerRows rows = random_rows(n, 4, 2, 16, seed, sharpness);
    std::vector<KeptTokens> selections;
    for (const int64_t every : {1, 2, 5, 1000}) {
      KeptTokens kept(2);
      for (int64_t t = seed % 2; t < n; t += every) {  // an odd seed leaves the first query without a key
        kept[0].push_back(static_cast<int32_t>(t));
        if (every < 1000) kept[1].push_back(static_cast<int32_t>(t));
      }
      selections.push_back(kept);
    }
    const Reconstruction r = must(reconstruct(rows, selections, 1));
    for (size_t s = 0; s < selections.size(); ++s) {
      for (size_t h = 0; h < r.norms.size(); ++h) {
        EXPECT_LE(r.loss[s][h].output, r.loss[s][h].bound * (1 + 1e-6)) << "seed " << seed;
        EXPECT_LE(r.loss[s][h].output_zeroed, r.loss[s][h].bound * (1 + 1e-6)) << "seed " << seed;
        if (s == 0 && seed % 2 == 0) {  // everything kept
          EXPECT_NEAR(r.loss[s][h].output, 0, 1e-6);
          EXPECT_EQ(r.loss[s][h].qk, 0);
        }
      }
    }
  }
}

// A key that takes all attention: what the others would have made of it must not drown in rounding.
TEST(KeyLoss, OneKeyTakesAll) {
  LayerRows rows = random_rows(40, 1, 1, 16, 7, 0.1f);
  for (int64_t d = 0; d < 16; ++d) {
    rows.k[static_cast<size_t>(d)] = 3;
    for (int64_t t = 0; t < 40; ++t) rows.q[static_cast<size_t>(t * 16 + d)] += 1;
  }
  const KeyLoss got = key_losses(rows, 0);
  // Without key 0, query t attends to the keys [1, t] alone.
  double squares = 0;
  for (int64_t t = 0; t < 40; ++t) {
    Eigen::VectorXd with = Eigen::VectorXd::Zero(16), without = with;
    double all = 0, others = 0;
    for (int64_t j = 0; j <= t; ++j) {
      const double s = rows.queries(0).row(t).cast<double>().dot(rows.keys(0).row(j).cast<double>());
      const double p = std::exp(s - 48);
      with += p * rows.values(0).row(j).cast<double>().transpose();
      all += p;
      if (j == 0) continue;
      without += p * rows.values(0).row(j).cast<double>().transpose();
      others += p;
    }
    squares += (with / all - (others > 0 ? Eigen::VectorXd(without / others) : without)).squaredNorm();
  }
  EXPECT_GT(got.attention[0], 0.999999);
  EXPECT_NEAR(got.loss[0], std::sqrt(squares), 1e-6 * std::sqrt(squares));
}

// The same figures whatever the number of threads.
TEST(Reconstruction, SameBitsForAnyThreads) {
  const LayerRows rows = random_rows(150, 6, 2, 32, 3, 0.2f);
  KeptTokens kept(2);
  for (int32_t t = 0; t < 150; t += 3) kept[0].push_back(t), kept[1].push_back(t + 1);
  const std::vector<KeptTokens> selections(3, kept);
  const Reconstruction one = must(reconstruct(rows, selections, 1)),
                       three = must(reconstruct(rows, selections, 3));
  for (size_t h = 0; h < 6; ++h) {
    EXPECT_EQ(one.norms[h].output, three.norms[h].output);
    EXPECT_EQ(one.loss[2][h].output, three.loss[2][h].output);
  }
  std::atomic<bool> stop = true;
  EXPECT_EQ(reconstruct(rows, selections, 2, &stop).error().code, ErrorCode::cancelled);
}

}  // namespace
}  // namespace curdkv::testing
