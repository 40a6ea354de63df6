// Requests, budgets and the property matrix: every scorer with every allocation, taken from the registry.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

#include "press/allocation.h"
#include "support/must.h"
#include "support/score.h"

namespace curdkv::testing {
namespace {

Result<Press> request(const std::string& name, double ratio = 0.5, std::optional<int64_t> budget = {}) {
  PressRequest r;
  r.name = name;
  r.compression_ratio = ratio;
  r.budget = budget;
  return Press::make(r);
}

void expect_refused(const Result<Press>& press, const std::string& words) {
  ASSERT_FALSE(press);
  EXPECT_EQ(press.error().code, ErrorCode::bad_argument);
  EXPECT_NE(press.error().message.find(words), std::string::npos) << press.error().message;
}

TEST(Press, RefusesWhatMakesNoSense) {
  expect_refused(request("adacurdkv", -0.1), "[0, 1)");
  expect_refused(request("adacurdkv", 1.0), "[0, 1)");
  expect_refused(request("adacurdkv", std::nan("")), "[0, 1)");
  expect_refused(request("none", 1.5), "[0, 1)");
  expect_refused(request("adacurdkv", 0, 0), "at least 1");
  expect_refused(request("adacurdkv", 0, -5), "at least 1");
  expect_refused(request("nosuch"), "no press 'nosuch'");
  expect_refused(request("cur+nosuch"), "no press");
  expect_refused(request(""), "no press");
  expect_refused(request("curdkv:alpha=0.3"), "no parameter 'alpha'");
  expect_refused(request("curdkv:sinks"), "name=value");
  expect_refused(request("curdkv:sinks=-1"), "between");
  expect_refused(request("curdkv:sinks=2.5"), "whole number");
  expect_refused(request("curdkv:sinks=many"), "not a number");
  expect_refused(request("curdkv:leverage=kv"), "one of key, value");
  expect_refused(request("curdkv:local=perhaps"), "true or false");
  expect_refused(request("adacurdkv:alpha=1.5"), "between 0 and 1");
}

TEST(Press, TakesParametersInItsName) {
  const Press press = must(request("adacurdkv:sinks=2:leverage=value:local=off:alpha=0.5"));
  EXPECT_EQ(press.name(), "adacurdkv");
  EXPECT_EQ(press.spec(), "adacurdkv:alpha=0.5:leverage=value:local=off:sinks=2");
  EXPECT_EQ(press.settings().at("sinks"), "2");
  EXPECT_EQ(press.settings().at("leverage"), "value");
  EXPECT_EQ(press.settings().at("local"), "false");
  EXPECT_EQ(press.settings().at("alpha"), "0.5");
  EXPECT_EQ(press.settings().at("rank"), "20") << "defaults are recorded too";
}

TEST(Press, ScorersWithinScorersTakeTheirParameters) {
  const Press press =
      must(request("mix+uniform:first=cur:first.sinks=9:second=snapkv:second.window=32:share=0.5"));
  EXPECT_EQ(press.settings().at("first.sinks"), "9");
  EXPECT_EQ(press.settings().at("second.window"), "32");
  EXPECT_EQ(press.settings().at("second.kernel"), "5") << "defaults are recorded too";
  EXPECT_EQ(sinks_of(press), 9);
  EXPECT_EQ(must(request("mixkv")).settings().at("first.ridge"), "3") << "a preset's own setting";
  EXPECT_EQ(must(request("mixkv:first.ridge=7")).settings().at("first.ridge"), "7");
  EXPECT_EQ(must(request("ridgekv")).settings().at("smooth"), "3");
  expect_refused(request("mix+uniform:first=nosuch"), "no scorer 'nosuch'");
  expect_refused(request("mix+uniform:first=knorm:first.window=3"), "no parameter 'first.window'");
  expect_refused(request("criticalkv+uniform:window=3"), "no parameter 'window'");
  expect_refused(request("snapkv:base=cur"), "no parameter 'base'");
}

TEST(Press, IsFoundWithItsParameters) {
  const auto names = [](const std::string& press) {
    std::string all;
    for (const PressParam& p : must(find_press(press)).params) all += p.name + "=" + p.default_value + " ";
    return all;
  };
  const std::string rows = "keys=cache values=cache key_error=0.5 ratio_of=rows ";
  EXPECT_EQ(names("ridgekv"), "of=kv_product ridge=10 smooth=3 sinks=4 " + rows) << "a preset's own settings";
  EXPECT_EQ(names("leverage+chunk"), "of=kv_product ridge=0 smooth=1 sinks=4 chunk_length=20 " + rows);
  EXPECT_EQ(names("tova+bytes:keys=auto"), "floor=0.3 budget_queries=512 induction=true " + rows);
  EXPECT_EQ(names("adaptive"), "alpha=0.2 ");
  EXPECT_EQ(names("mix:first=tova:second=tova"), "first=leverage second=noncausal_attention share=0.7 ");
  EXPECT_EQ(names("none"), "keys=cache values=cache key_error=0.5 ");
  for (const char* press :
       {"nosuch", "", "+", "cur+", "mix+uniform+uniform", "none:sinks=1", "curdkv:sinks=-1"}) {
    const auto found = find_press(press);
    ASSERT_FALSE(found) << press;
    EXPECT_EQ(found.error().code, ErrorCode::bad_argument);
  }
  EXPECT_NE(find_press("cru").error().message.find("did you mean 'cur'?"), std::string::npos);
  expect_refused(request("cru"), "there are: none, curdkv");
  expect_refused(request("cur"), "did you mean 'cur+uniform'?");
}

TEST(Press, LayersShareAPyramid) {
  const Press press = must(request("pyramidkv", 0.8));
  int64_t sum = 0;
  for (int64_t il = 0; il < 30; ++il) {
    if (il > 0) {
      EXPECT_LT(press.n_kept_in_layer(8000, il, 30), press.n_kept_in_layer(8000, il - 1, 30));
    }
    sum += press.n_kept_in_layer(8000, il, 30);
    EXPECT_EQ(press.n_kept_in_layer(4000, il, 30), 800) << "40 in the last layer would be below the floor";
  }
  EXPECT_EQ(press.n_kept_in_layer(8000, 29, 30), 80) << "a twentieth of the average";
  EXPECT_EQ(press.n_kept_in_layer(8000, 0, 30), 3120) << "as much above it";
  EXPECT_NEAR(static_cast<double>(sum), 30 * 1600.0, 30);
  // Whatever selects within a layer, in either order.
  for (const char* name : {"snapkv+pyramid+adaptive", "snapkv+adaptive+pyramid:alpha=0.1"}) {
    const Press both = must(request(name, 0.8));
    EXPECT_EQ(both.n_kept_in_layer(8000, 29, 30), 80) << name;
    EXPECT_EQ(both.settings().count("alpha") + both.settings().count("beta"), 2u) << name;
    EXPECT_EQ(must(find_press(name)).params.size(), 9u)
        << "window, kernel, beta, floor, alpha, and how rows are held";
  }
  expect_refused(request("snapkv+bytes+adaptive"), "leaves nothing to adaptive");
  expect_refused(request("snapkv+pyramid+pyramid"), "no press");
  expect_refused(request("snapkv+uniform+adaptive"), "no press");
}

TEST(Press, BudgetsAreThoseOfTheReference) {
  EXPECT_EQ(must(request("curdkv", 0.7)).n_kept(203), 60);  // int(203 * 0.3)
  EXPECT_EQ(must(request("curdkv", 0.9)).n_kept(203), 20);
  EXPECT_EQ(must(request("curdkv", 0.0)).n_kept(203), 203);
  EXPECT_EQ(must(request("curdkv", 0.5, 30)).n_kept(203), 30);
  EXPECT_EQ(must(request("curdkv", 0.5, 1000)).n_kept(203), 203);
  EXPECT_EQ(must(request("none")).n_kept(203), 203);
  // Never fewer than sinks + 1, nor more than there are.
  EXPECT_EQ(must(request("curdkv", 0.99)).n_kept(100), 5);
  EXPECT_EQ(must(request("curdkv", 0.5, 1)).n_kept(100), 5);
  EXPECT_EQ(must(request("curdkv", 0.99)).n_kept(5), 5);
  EXPECT_EQ(must(request("curdkv", 0.99)).n_kept(3), 3);
  EXPECT_EQ(must(request("curdkv", 0.99)).n_kept(1), 1);
}

// Every pair the registry can make.
std::vector<std::string> all_pairs() {
  std::vector<std::string> scorers, allocations, pairs;
  for (const PressInfo& p : list_presses()) {
    if (!p.scorer.empty() && p.allocation.empty()) scorers.push_back(p.name);
    if (p.scorer.empty() && !p.allocation.empty()) allocations.push_back(p.name);
  }
  for (const auto& s : scorers) {
    for (const auto& a : allocations) pairs.push_back(s + "+" + a);
    pairs.push_back(s + "+pyramid+adaptive");
  }
  return pairs;
}

class Matrix : public ::testing::TestWithParam<std::string> {};

TEST_P(Matrix, HoldsItsProperties) {
  for (const int64_t n_tokens : {1, 3, 5, 6, 64, 203, 700}) {
    const RandomLayer layer(n_tokens, 3, 32, 17);
    for (const double ratio : {0.0, 0.3, 0.5, 0.9, 0.99}) {
      const Press press = must(request(GetParam(), ratio));
      constexpr int64_t kLayer = 7, kLayers = 30;
      const KeptTokens kept = layer.select(press, 0, kLayer, kLayers);
      SCOPED_TRACE(::testing::Message() << n_tokens << " tokens, ratio " << ratio);
      const int64_t budget = press.n_kept_in_layer(n_tokens, kLayer, kLayers);
      int64_t total = 0;
      for (const auto& head : kept) {
        total += static_cast<int64_t>(head.size());
        EXPECT_TRUE(std::is_sorted(head.begin(), head.end()));
        EXPECT_EQ(std::set<int32_t>(head.begin(), head.end()).size(), head.size()) << "a token kept twice";
        const int64_t n_sinks = std::min(sinks_of(press), static_cast<int64_t>(head.size()));
        for (int32_t t = 0; t < n_sinks; ++t)
          EXPECT_EQ(head[static_cast<size_t>(t)], t) << "a sink was evicted";
        if (!head.empty()) {
          EXPECT_GE(head.front(), 0);
          EXPECT_LT(head.back(), n_tokens);
        }
      }
      EXPECT_LE(std::abs(total - budget * 3), press.selection()->granularity() * 3) << "the layer's budget";
      if (budget == n_tokens) {
        for (const auto& head : kept)
          EXPECT_EQ(static_cast<int64_t>(head.size()), n_tokens) << "ratio 0 is identity";
      }
      EXPECT_EQ(layer.select(press, 0, kLayer, kLayers), kept) << "the same seed keeps the same";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Presses, Matrix, ::testing::ValuesIn(all_pairs()), [](const auto& i) {
  std::string name = i.param;
  std::replace(name.begin(), name.end(), '+', '_');
  return name;
});

Scores scores_of(const std::vector<float>& data, int64_t n_tokens) {
  Scores scores(n_tokens, static_cast<int64_t>(data.size()) / n_tokens);
  scores.data() = data;
  return scores;
}

TEST(Allocation, TiesGoToTheLowerPosition) {
  const std::vector<float> equal(60, 1.0f);  // 3 heads of 20 tokens
  for (const char* name : {"cur+uniform", "cur+adaptive:alpha=0"}) {
    const Press press = must(request(name));
    const KeptTokens kept = press.selection()->select(scores_of(equal, 20), {4, 4.0});
    for (const auto& head : kept) EXPECT_EQ(head, (std::vector<int32_t>{0, 1, 2, 3})) << name;
  }
}

TEST(Allocation, NaNIsTheLowest) {
  std::vector<float> scores = {3, std::nanf(""), 2, 1, -1e30f};
  const Press press = must(request("cur+uniform"));
  EXPECT_EQ(press.selection()->select(scores_of(scores, 5), {4, 4.0})[0], (std::vector<int32_t>{0, 2, 3, 4}));
}

TEST(Allocation, AdaptiveGivesRoomToHeadsThatScoreHigher) {
  // Head 0 scores far above head 1 everywhere: it takes all but head 1's safeguard.
  std::vector<float> scores;
  for (int h = 0; h < 2; ++h) {
    for (int t = 0; t < 100; ++t) scores.push_back(static_cast<float>((h == 0 ? 1000 : 0) + t));
  }
  const KeptTokens kept =
      must(request("cur+adaptive:alpha=0.2")).selection()->select(scores_of(scores, 100), {20, 20.0});
  EXPECT_EQ(kept[0].size(), 36u);
  EXPECT_EQ(kept[1], (std::vector<int32_t>{96, 97, 98, 99}));
}

TEST(Cur, SeedsOfTheProjectionMatter) {
  const RandomLayer layer(500, 2, 64, 5);
  PressRequest r;
  r.name = "curdkv:projection=true:local=false";
  r.compression_ratio = 0.8;
  const KeptTokens a = layer.select(must(Press::make(r)));
  r.seed = 43;
  EXPECT_NE(layer.select(must(Press::make(r))), a);
}

// A context of full windows and one whose last window is short: corrected scores there are in line with the
// rest.
TEST(Cur, CorrectedTailIsNotInflated) {
  const RandomLayer layer(16 * 20 + 2, 1, 64, 3);
  const auto mean = [](std::span<const float> s, size_t from, size_t to) {
    double sum = 0;
    for (size_t i = from; i < to; ++i) sum += s[i];
    return sum / static_cast<double>(to - from);
  };
  const auto parity = layer.scores(must(request("curdkv:leverage=key")));
  const auto corrected = layer.scores(must(request("curdkv:leverage=key:tail=corrected")));
  EXPECT_NEAR(mean(parity, 320, 322) / mean(parity, 16, 320), 8.0, 0.5);
  EXPECT_NEAR(mean(corrected, 320, 322) / mean(corrected, 16, 320), 1.0, 0.1);
}

}  // namespace
}  // namespace curdkv::testing
