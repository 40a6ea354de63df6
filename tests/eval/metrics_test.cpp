// Metrics against the scores of the benchmarks' own code.
#include "eval/metrics.h"

#include <gtest/gtest.h>

#include "eval/code_similarity.h"
#include "io/input_file.h"
#include "io/jsonl.h"
#include "support/eval_data.h"
#include "support/must.h"

namespace curdkv::eval {
namespace {

using curdkv::testing::must;

double score(const Json& c, const Json& classes, const ScoringVariant& variant = {}) {
  const TaskInfo* task = find_task(c["dataset"].get<std::string>());
  EXPECT_NE(task, nullptr) << c["dataset"];
  return score_of(*task, c["prediction"], c["references"].get<std::vector<std::string>>(),
                  classes.is_array() ? classes.get<std::vector<std::string>>() : std::vector<std::string>(),
                  variant);
}

TEST(Metrics, EqualTheBenchmarksOwn) {
  const Json goldens = Json::parse(must(read_file(CURDKV_TEST_DATA "/metrics.json")));
  int n_variants = 0;
  for (const Json& c : goldens["cases"]) {
    const Json classes =
        c.value("all_classes", Json()) == "trec" ? goldens["trec"] : c.value("all_classes", Json());
    SCOPED_TRACE(c["id"].dump() + " " + c["note"].dump());
    EXPECT_NEAR(score(c, classes), c["expected_score"], 1e-6);
    const auto variant = [&](const char* expected, ScoringVariant v) {
      if (!c.contains(expected)) return;
      EXPECT_NEAR(score(c, classes, v), c[expected], 1e-6) << expected;
      ++n_variants;
    };
    variant("expected_kvpress_head", {.kvpress_head = true});
    variant("expected_score_with_python_levenshtein", {.levenshtein = true});
    variant("expected_nvidia_ruler", {.nvidia_ruler = true});
  }
  EXPECT_EQ(goldens["cases"].size(), 44u);
  EXPECT_EQ(n_variants, 38 + 7 + 6);
}

TEST(Metrics, EqualTheBenchmarksOwnOnRealPredictions) {
  CURDKV_NEEDS_DATA(path, "metric_goldens_minilongbench.jsonl");
  const auto lines = must(read_jsonl(path));
  EXPECT_EQ(lines.size(), 187u);
  // The classes of trec are in its data.
  CURDKV_NEEDS_DATA(trec, "minilongbench/trec.jsonl");
  const Json classes = must(read_jsonl(trec))[0].object()["all_classes"];
  for (const JsonLine& line : lines) {
    const Json& c = line.object();
    SCOPED_TRACE(line.place());
    EXPECT_NEAR(score(c, classes), c["expected_score"], 1e-6);
    EXPECT_NEAR(score(c, classes, {.kvpress_head = true}), c["expected_kvpress_head"], 1e-6);
    if (c.contains("expected_score_with_python_levenshtein")) {
      EXPECT_NEAR(score(c, classes, {.levenshtein = true}), c["expected_score_with_python_levenshtein"],
                  1e-6);
    }
  }
}

TEST(Metrics, SeeUnicodeAsPythonDoes) {
  EXPECT_EQ(lower(U"ÉÀΣ"), U"éàσ");
  EXPECT_EQ(split(U"a\u00a0b\u2003c\u200bd"), (std::vector<CodePoints>{U"a", U"b", U"c\u200bd"}));
  EXPECT_TRUE(is_digit(U'٣'));
  EXPECT_FALSE(is_digit(U'²'));
  EXPECT_EQ(decode_utf8("a\xff"), U"a\ufffd");
  EXPECT_DOUBLE_EQ(qa_f1("thé", "the"), 0);  // not an article
}

}  // namespace
}  // namespace curdkv::eval
