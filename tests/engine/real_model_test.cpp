// What must hold on the default model.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>

#include "engine/determinism_checks.h"
#include "support/oracle.h"
#include "support/real_model.h"

namespace curdkv::testing {
namespace {

class RealModel : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    model_ = new Model(must(Model::load(real_model_path())));
    tokenizer_ = new Tokenizer(must(Tokenizer::load(real_model_path())));
  }
  static void TearDownTestSuite() {
    delete model_;
    delete tokenizer_;
  }
  static std::vector<Token> document(size_t n) { return document_tokens(*tokenizer_, n); }
  static std::vector<Token> question() {
    return must(must(Prompt::create(*tokenizer_, true)).question("What is this text about, and who wrote it?"));
  }
  static Model* model_;
  static Tokenizer* tokenizer_;
};
Model* RealModel::model_ = nullptr;
Tokenizer* RealModel::tokenizer_ = nullptr;

std::vector<double> softmax(std::span<const float> logits) {
  const double max = *std::max_element(logits.begin(), logits.end());
  std::vector<double> p(logits.size());
  double sum = 0;
  for (size_t i = 0; i < p.size(); ++i) sum += p[i] = std::exp(logits[i] - max);
  for (double& x : p) x /= sum;
  return p;
}

TEST_F(RealModel, LogitsAgreeWithLibllama) {
  constexpr size_t kPositions = 1024;
  const auto tokens = document(kPositions);
  auto oracle = Oracle::load(real_model_path(), 2, 2048);
  ASSERT_NE(oracle, nullptr);
  const auto expected = oracle->extend(tokens, true);
  ASSERT_EQ(expected.size(), kPositions);

  SessionParams params;
  params.n_threads = 2;
  Session session = must(Session::create(*model_, params));
  double kl = 0;
  int agree = 0;
  const auto compare = [&](int64_t position, std::span<const float> logits) {
    const auto p = softmax(expected[static_cast<size_t>(position)]), q = softmax(logits);
    for (size_t i = 0; i < p.size(); ++i) kl += p[i] * std::log(p[i] / q[i]);
    agree += argmax(expected[static_cast<size_t>(position)]) == argmax(logits);
  };
  PrefillOptions options;
  options.logits = compare;
  must(session.prefill(tokens, Press(), options));
  std::printf("prefill: mean KL divergence %.3g, top-1 agreement %.2f %%\n", kl / kPositions, 100.0 * agree / kPositions);
  EXPECT_LE(kl / kPositions, 1e-4);
  EXPECT_GE(agree, 0.995 * kPositions);

  session.clear();
  kl = agree = 0;
  must(session.extend(tokens, compare));
  std::printf("extend:  mean KL divergence %.3g, top-1 agreement %.2f %%\n", kl / kPositions, 100.0 * agree / kPositions);
  EXPECT_LE(kl / kPositions, 1e-4);
  EXPECT_GE(agree, 0.995 * kPositions);
}

TEST_F(RealModel, SameAnswerForAnyThreadsAndChunks) {
  expect_same_for_threads_and_chunks(*model_, document(1500), question(), make_press("adacurdkv", 0.6),
                                     {{2, 512}, {1, 512}, {2, 64}, {3, 1024}, {2, 200}});
}

TEST_F(RealModel, LayerwiseCompressionIsExact) {
  expect_layerwise_is_exact(*model_, document(1500), question(), make_press("adacurdkv", 0.7));
}

TEST_F(RealModel, RewindForgets) { expect_rewind_forgets(*model_, document(900), question(), make_press("curdkv", 0.5)); }

}  // namespace
}  // namespace curdkv::testing
