// What tells which KV heads answers depend on: the questions, and the weights made of the losses.
#include "analysis/head_losses.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "eval/builtin.h"
#include "support/must.h"

namespace curdkv::testing {
namespace {

using namespace curdkv::analysis;

size_t count(const std::string& text, const std::string& what) {
  size_t n = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++n;
  return n;
}

std::vector<Lookup> lookups(const std::string& text, int64_t n_words, int64_t n, uint32_t seed) {
  const eval::WordList names(eval::kBuiltinAdjectives, eval::kBuiltinNouns);
  return make_lookups(must(eval::Haystack::from_text(text)), names, n_words, n, seed);
}

TEST(Lookups, AreAnsweredByTheirTexts) {
  const auto all = lookups(std::string(eval::kBuiltinHaystack), 500, 40, 3);
  ASSERT_EQ(all.size(), 40u);
  std::set<std::string> contexts;
  for (size_t i = 0; i < all.size(); ++i) {
    const Lookup& l = all[i];
    contexts.insert(l.context);
    EXPECT_GE(count(l.context, l.answer_prefix + l.answer), 1u) << l.answer_prefix;
    EXPECT_NEAR(static_cast<double>(count(l.context, " ")), i % 2 == 0 ? 575 : 500, 30);
    if (i % 2 == 0) {
      EXPECT_EQ(count(l.context, "The number of the "), 10u);
      EXPECT_EQ(l.question,
                "What is the number of the " + l.answer_prefix.substr(18, l.answer_prefix.size() - 21) + "?");
    } else {
      EXPECT_NE(l.question.find(l.answer_prefix), std::string::npos);
      EXPECT_EQ(count(l.answer, " "), 20u);
    }
  }
  EXPECT_EQ(contexts.size(), 40u);
}

TEST(Lookups, AreTheSameForTheSameSeed) {
  const std::string text(eval::kBuiltinHaystack);
  EXPECT_EQ(lookups(text, 300, 4, 1)[3].context, lookups(text, 300, 4, 1)[3].context);
  EXPECT_NE(lookups(text, 300, 4, 1)[3].context, lookups(text, 300, 4, 2)[3].context);
}

TEST(Lookups, ShortTextsRepeatAndTinyOnesDo) {
  EXPECT_GT(count(lookups("One two three. Four five.", 200, 1, 1)[0].context, "three"), 20u);
  for (const Lookup& l : lookups("x", 5, 2, 1)) EXPECT_FALSE(l.context.empty());
}

TEST(HeadWeights, GrowWithLossAndShrinkWithWorth) {
  const HeadLosses losses = {{{0.1, 0.4}, {0.1, 0}}, {{2, 2}, {32, 2}}};
  const auto weight = head_weights_of(losses);
  ASSERT_EQ(weight.size(), 2u);
  EXPECT_NEAR(weight[0][1] / weight[0][0], std::pow(4, 0.75), 0.01);
  EXPECT_NEAR(weight[0][0] / weight[1][0], std::pow(16, 0.25), 0.01);
  EXPECT_GT(weight[1][1], 0) << "no loss at all still weighs something";
  EXPECT_LT(weight[1][1], 0.1f * weight[1][0]);
}

}  // namespace
}  // namespace curdkv::testing
