// Statistics against scipy's and published figures, and summaries of predictions by hand.
#include "eval/statistics.h"

#include <gtest/gtest.h>

#include "eval/summary.h"
#include "io/input_file.h"
#include "io/jsonl.h"
#include "support/must.h"

namespace curdkv::eval {
namespace {

using curdkv::testing::must;

// What scipy.stats.friedmanchisquare and rankdata say of the paper's printed tables.
struct PaperTest {
  const char *benchmark, *model, *ratio;
  size_t n_methods;  // of ChunkKV, Knorm, StreamingLLM, SnapKV, CurDKV, AdaSnapKV, AdaCurDKV
  double statistic, p_value;
  std::vector<double> ranks;  // some are not given
};

// scipy.stats.spearmanr of the same.
TEST(Spearman, WithAndWithoutTies) {
  const std::vector<double> a = {1, 2, 3, 4, 5}, b = {5, 6, 7, 8, 7}, constant(5, 2.0);
  EXPECT_NEAR(spearman(a, b), 0.8207826816681233, 1e-12);
  EXPECT_NEAR(spearman(std::vector<double>{1, 2, 2, 9, 4, 0}, std::vector<double>{3, 1, 1, 0, 2, 2}),
              -0.6567895774291853, 1e-12);
  EXPECT_NEAR(spearman(a, a), 1, 1e-12);
  EXPECT_EQ(spearman(a, constant), 0);
}

TEST(Friedman, OfThePapersTables) {
  const std::vector<PaperTest> tests = {
      {"longbench", "llama", "30%", 5, 34.9, 5e-7, {3.16, 3.03, 4.56, 2.97, 1.28}},
      {"longbench", "llama", "30%", 7, 51.4, 2e-9, {0, 0, 0, 0, 2.12, 3.91, 1.91}},
      {"longbench", "mistral", "30%", 5, 36.0, 3e-7, {}},
      {"longbench", "mistral", "30%", 7, 50.9, 0, {}},
      {"longbench", "llama", "90%", 5, 21.5, 2.5e-4, {3.59, 3.50, 3.78, 2.50, 1.62}},
      {"longbench", "mistral", "90%", 5, 8.52, 0.074, {2.78, 3.69, 3.38, 2.19, 2.97}},
      {"ruler", "llama", "30%", 7, 25.57, 2.7e-4, {3.75, 5.38, 6.06, 4.62, 2.62, 3.00, 2.56}},
      {"ruler", "mistral", "30%", 7, 27.0, 0, {}},
      {"ruler", "llama", "90%", 7, 12.33, 0.055, {2.50, 5.88, 4.62, 4.19, 3.69, 3.94, 3.19}},
  };
  const Json tables = Json::parse(must(read_file(CURDKV_TEST_DATA "/paper_tables.json")));
  for (const PaperTest& t : tests) {
    SCOPED_TRACE(std::string(t.benchmark) + " " + t.model + " " + t.ratio);
    std::vector<std::vector<double>> values;
    for (const auto& [task, row] : tables[t.benchmark][t.model][t.ratio].items()) {
      if (task == "Average") continue;
      values.push_back(row.get<std::vector<double>>());
      values.back().resize(t.n_methods);
    }
    const auto f = friedman(values);
    ASSERT_TRUE(f);
    EXPECT_NEAR(f->statistic, t.statistic, t.statistic < 10 || t.statistic > 50 ? 0.05 : 0.051);
    if (t.p_value > 0) {
      EXPECT_NEAR(f->p_value / t.p_value, 1, 0.25);  // some are given with one digit
    }
    for (size_t i = 0; i < t.ranks.size(); ++i) {
      if (t.ranks[i] > 0) {
        EXPECT_NEAR(f->mean_ranks[i], t.ranks[i], 0.0051);
      }
    }
  }
}

TEST(Friedman, EdgeCases) {
  EXPECT_FALSE(friedman(std::vector<std::vector<double>>{{1, 2}}));
  EXPECT_FALSE(friedman(std::vector<std::vector<double>>{{1}, {2}}));
  const auto equal = friedman(std::vector<std::vector<double>>{{1, 1, 1}, {2, 2, 2}});
  EXPECT_EQ(equal->statistic, 0);
  EXPECT_EQ(equal->p_value, 1);
}

// Upper 5 % points of the studentised range, infinite degrees of freedom (any table of Tukey's test).
TEST(Nemenyi, StudentizedRange) {
  EXPECT_NEAR(studentized_range_cdf(2.772, 2), 0.95, 1e-4);
  EXPECT_NEAR(studentized_range_cdf(3.858, 5), 0.95, 1e-4);
  EXPECT_NEAR(studentized_range_cdf(4.474, 10), 0.95, 1e-4);
  EXPECT_NEAR(studentized_range_cdf(5.012, 20), 0.95, 1e-4);
  EXPECT_EQ(studentized_range_cdf(0, 5), 0);
}

// Demsar 2006, section 3.2.2: 4 methods, 14 data sets, mean ranks 3.143, 2.000, 2.893, 1.964: CD 1.25 at 5 %.
TEST(Nemenyi, CriticalDifference) {
  std::vector<std::vector<double>> values(14, {1, 2, 3, 4});
  EXPECT_NEAR(friedman(values)->critical_difference, 1.25, 0.005);
  EXPECT_LT(friedman(values)->pairwise[0][3], 1e-6);
  EXPECT_NEAR(friedman(values)->pairwise[2][2], 1, 1e-12);
}

TEST(Bootstrap, CoversTheMean) {
  const std::vector<std::vector<double>> groups = {{0, 1, 0, 1, 1, 1, 0, 1}, {1, 1, 1, 1}};
  const Interval i = bootstrap(groups);
  EXPECT_DOUBLE_EQ(i.mean, (0.625 + 1) / 2);
  EXPECT_LT(i.low, i.mean);
  EXPECT_GT(i.high, i.mean);
  EXPECT_GE(i.low, 0.5);  // the second group never varies
  // Standard error of the mean of 8 draws, halved: 0.0856; 95 % is about 1.96 of it to either side.
  EXPECT_NEAR(i.high - i.low, 2 * 1.96 * 0.0856, 0.04);
}

Prediction prediction(const char* task, int64_t sample, const char* press, double ratio, double score,
                      const char* text) {
  Prediction p;
  p.task = task;
  p.sample = sample;
  p.press = press;
  p.compression_ratio = ratio;
  p.score = score;
  p.prediction = text;
  p.kv_bytes = ratio > 0 ? 10 : 100;
  return p;
}

TEST(Summary, ComparesOnTheSameSamples) {
  const std::vector<Prediction> all = {
      prediction("niah_single_1", 0, "none", 0, 1, "one two"),
      prediction("niah_single_1", 0, "knorm", 0.5, 0.5, "one"),
      prediction("niah_single_1", 1, "none", 0, 1, "three"),
      prediction("niah_single_1", 1, "knorm", 0.5, 1, "three"),
      prediction("niah_single_1", 2, "none", 0, 0, "only the full cache answered"),
      prediction("niah_multikey_1", 0, "none", 0, 0, ""),
      prediction("niah_multikey_1", 0, "knorm", 0.5, 1, ""),
      prediction("qasper", 0, "none", 0, 1, "another benchmark"),
  };
  const Summary s = Summary::of(all, Benchmark::ruler);
  ASSERT_EQ(s.tasks().size(), 2u);
  EXPECT_EQ(s.n_left_out(), 1);
  EXPECT_EQ(s.n_samples(*find_task("niah_single_1")), 2u);
  const Method knorm = {"knorm", 0.5};
  EXPECT_DOUBLE_EQ(s.score(knorm, *find_task("niah_single_1")).mean, 75);
  EXPECT_DOUBLE_EQ(s.average(knorm).mean, 87.5);
  EXPECT_DOUBLE_EQ(s.average(kFullCache).mean, 50);
  EXPECT_DOUBLE_EQ(s.fidelity(knorm), 75);  // the other task's full score is 0
  EXPECT_NEAR(s.output_fidelity(knorm), 100 * ((2.0 / 3 + 1) / 2 + 1) / 2, 1e-9);
  EXPECT_DOUBLE_EQ(s.mean_kv_bytes(knorm), 10);
  EXPECT_FALSE(s.test(0.5));  // one press
  EXPECT_TRUE(Summary::of(all, Benchmark::longbench).presses().empty());
}

}  // namespace
}  // namespace curdkv::eval
