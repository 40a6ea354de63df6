// Scores and selections against vectors made by the real kvpress (goldens/layerXX.gguf), and by an
// independent numpy program where kvpress has no such press or draws random numbers
// (goldens/reference_layerXX.gguf).
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <map>

#include "press/allocation.h"
#include "support/golden.h"
#include "support/score.h"

namespace curdkv::testing {
namespace {

// The golden files' names of things as presses. Those of "cur." are spelled out by cur_press().
const std::map<std::string, std::string> kPresses = {
    {"knorm", "knorm"},
    {"keydiff", "keydiff"},
    {"tova", "tova"},
    {"snapkv", "snapkv"},
    {"snapkv.w16.k7", "snapkv:window=16:kernel=7"},
    {"lagkv", "lagkv:lag=64"},
    {"expected_attention", "expectedattention"},
    {"expected_attention.nocov", "expectedattention:covariance=false"},
    {"observed_attention", "h2o"},
    {"streaming_llm", "streamingllm"},
    {"ada_snapkv.w16.k7", "adasnapkv:window=16:kernel=7"},
    {"ada_cur", "adacurdkv"},
    {"ada_cur.nolocal", "adacurdkv:local=false"},
    {"chunkkv", "chunkkv"},
    {"chunkkv_cur", "chunkcurdkv"},
    {"pyramidkv", "pyramidkv"},
    // The numpy program's.
    {"leverage.key", "leverage:of=key"},
    {"leverage.value", "leverage:of=value"},
    {"leverage", "leverage"},
    {"ridgekv", "ridgekv"},
    {"scissorshands", "scissorshands"},
    {"scissorshands.h64.norecent", "scissorshands:history=64:recent=0"},
    {"noncausal_attention", "noncausal_attention+uniform"},
    {"noncausal_attention.c64.scaled.corrected",
     "noncausal_attention+uniform:chunk=64:scaled=true:tail=corrected"},
    {"compactor", "compactor"},
    {"dropkv", "dropkv"},
    {"dropkv.w16.k3", "dropkv:window=16:kernel=3"},
    {"capkv", "capkv"},
    {"capkv.t20.nosinks", "capkv:tau=20:sinks=0"},
    {"mixkv", "mixkv"},
};

// "cur.kv_product.random.local" as a press.
std::string cur_press(const std::string& name) {
  const auto has = [&](const char* part) { return name.find(part) != std::string::npos; };
  if (has(".w7.sinks0")) return "curdkv:window=7:sinks=0";
  std::string leverage = "kv_product";
  for (const char* l : {"key", "value", "kv_avg", "kv_product"}) {
    if (name.starts_with(std::string("cur.") + l)) leverage = l;
  }
  return "curdkv:leverage=" + leverage + ":projection=" + (has(".random") ? "true" : "false") +
         ":local=" + (has(".local") ? "true" : "false");
}

// A golden's name is "NAME" or "NAME.rXX", XX the percentage removed.
struct Case {
  std::string name;
  double ratio = 0.5;
  std::string press;
};

Case case_of(const std::string& golden) {
  Case c{golden, 0.5, ""};
  const size_t at = golden.rfind(".r");
  if (at != std::string::npos && golden.size() - at <= 4 && std::isdigit(golden[at + 2]) &&
      golden.back() == '0') {
    c.name = golden.substr(0, at);
    c.ratio = std::stod(golden.substr(at + 2)) / 100;
  }
  if (c.name.starts_with("cur.")) {
    c.press = cur_press(c.name);
  } else if (const auto p = kPresses.find(c.name); p != kPresses.end()) {
    c.press = p->second;
  }
  return c;
}

struct Sources {
  const char* model;    // layerXX.gguf: inputs, and kvpress's results
  const char* results;  // whose results are compared
  int64_t il;
};

class Goldens : public ::testing::TestWithParam<Sources> {
 protected:
  Golden inputs_{GetParam().model}, golden_{GetParam().results};
  const int64_t n_tokens_ = inputs_.tensor("keys")->ne[1];
  TestLayer layer_{{n_tokens_,
                    3,
                    3,
                    64,
                    GGML_TYPE_F32,
                    inputs_.data<float>("keys"),
                    inputs_.data<float>("values"),
                    inputs_.data<float>("queries"),
                    {.pairing = RopePairing::neox, .n_rot = 64, .freq_base = inputs_.number("rope_theta")},
                    {},
                    [this](int64_t d, int64_t rank, int64_t n) { return gaussian(d, rank, n); }}};

  // The golden files use one Gaussian for all heads; theirs is stored with the rank fastest.
  std::vector<float> gaussian(int64_t d, int64_t rank, int64_t n) const {
    const std::string name = rank == 20 ? "gaussian" : "gaussian" + std::to_string(rank);
    const auto g = (rank == 20 ? inputs_ : golden_).data<float>(name);
    std::vector<float> out;
    for (int64_t h = 0; h < n; ++h) {
      for (int64_t r = 0; r < rank; ++r) {
        for (int64_t i = 0; i < d; ++i) out.push_back(g[static_cast<size_t>(i * rank + r)]);
      }
    }
    return out;
  }

  // The selections are equal, or differ in one token whose reference score is equal to F32 rounding: in layer
  // 0 equal tokens have equal norms up to the order in which squares are summed.
  void expect_same_but_for_ties(const std::vector<int32_t>& kept, const std::vector<int32_t>& expected,
                                const std::string& name, int64_t head) const {
    std::vector<int32_t> ours, theirs;
    std::set_difference(kept.begin(), kept.end(), expected.begin(), expected.end(), std::back_inserter(ours));
    std::set_difference(expected.begin(), expected.end(), kept.begin(), kept.end(),
                        std::back_inserter(theirs));
    ASSERT_EQ(ours.size(), theirs.size()) << name;
    if (ours.empty()) return;
    ASSERT_EQ(ours.size(), 1u) << name;
    const auto all = golden_.data<float>("score." + case_of(name).name);
    const auto reference =
        std::span(all).subspan(static_cast<size_t>(head * n_tokens_), static_cast<size_t>(n_tokens_));
    const double a = reference[static_cast<size_t>(ours[0])], b = reference[static_cast<size_t>(theirs[0])];
    std::printf("%s: token %d kept for %d, reference scores differ by %.1g relative\n", name.c_str(), ours[0],
                theirs[0], a / b - 1);
    EXPECT_NEAR(a / b, 1, 5e-7) << name;
  }
};

TEST_P(Goldens, ScoresAreTheReferences) {
  const auto names = golden_.names("score.");
  ASSERT_GE(names.size(), 10u);
  for (const std::string& name : names) {
    const Case c = case_of(name);
    ASSERT_NE(c.press, "") << "no press is known for the golden " << name;
    const auto scores = layer_.scores(make_press(c.press, c.ratio));
    const auto expected = golden_.data<float>("score." + name);
    ASSERT_EQ(scores.size(), expected.size());
    // Standardised scores cross zero: there the error is relative to their spread, which is 1.
    const bool standardised = name.starts_with("noncausal") || name.starts_with("compactor");
    double worst = 0;
    for (size_t i = 0; i < scores.size(); ++i) {
      const double scale = standardised ? std::max(1.0f, std::abs(expected[i])) : std::abs(expected[i]);
      const double error = std::abs(static_cast<double>(scores[i]) - expected[i]);
      worst = std::max(worst, error == 0 ? 0 : error / scale);
    }
    RecordProperty(name, std::to_string(worst));
    std::printf("%-45s worst relative error %.1e\n", name.c_str(), worst);
    EXPECT_LE(worst, 1e-4) << name;
  }
}

TEST_P(Goldens, KeptTokensAreTheReferences) {
  for (const std::string& name : golden_.names("kept.")) {
    const Case c = case_of(name);
    if (c.name == "criticalkv_snapkv") continue;  // needs the model's weights: real_model_test
    ASSERT_NE(c.press, "") << "no press is known for the golden " << name;
    const KeptTokens kept = layer_.select(make_press(c.press, c.ratio), 0, GetParam().il, 30);
    const auto flat = golden_.data<int32_t>("kept." + name);
    ASSERT_EQ(flat.size(), 3 * kept[0].size()) << name;
    for (size_t h = 0; h < 3; ++h) {
      const auto begin = flat.begin() + static_cast<std::ptrdiff_t>(h * kept[0].size());
      const std::vector<int32_t> expected(begin, begin + static_cast<std::ptrdiff_t>(kept[0].size()));
      if (name.starts_with("chunkkv") || name.starts_with("pyramidkv")) {
        const auto all = inputs_.data<float>("values");
        const auto values = std::span(all).subspan(h * static_cast<size_t>(n_tokens_) * 64);
        EXPECT_EQ(first_with_same_value(kept[h], values, 64), expected) << name;
        continue;
      }
      expect_same_but_for_ties(kept[h], expected, name, static_cast<int64_t>(h));
    }
  }
}

TEST_P(Goldens, AdaptiveMasksAreTheReferences) {
  for (const std::string& name : golden_.names("mask.")) {
    const Case c = case_of(name);
    ASSERT_NE(c.press, "") << "no press is known for the golden " << name;
    const KeptTokens kept = layer_.select(make_press(c.press, c.ratio));
    std::vector<int32_t> mask(static_cast<size_t>(3 * n_tokens_), 0);
    for (size_t h = 0; h < kept.size(); ++h) {
      for (int32_t t : kept[h]) mask[h * static_cast<size_t>(n_tokens_) + static_cast<size_t>(t)] = 1;
    }
    EXPECT_EQ(mask, golden_.data<int32_t>("mask." + name)) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Layers, Goldens,
                         ::testing::Values(Sources{"layer00.gguf", "layer00.gguf", 0},
                                           Sources{"layer14.gguf", "layer14.gguf", 14},
                                           Sources{"layer00.gguf", "reference_layer00.gguf", 0},
                                           Sources{"layer14.gguf", "reference_layer14.gguf", 14}),
                         [](const auto& i) {
                           const std::string name = i.param.results;
                           return name.substr(0, name.find('.'));
                         });

}  // namespace
}  // namespace curdkv::testing
