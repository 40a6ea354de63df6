// The RULER samples of the CurDKV paper, and an oracle for harness and press that needs no model:
// StreamingLLM answers where the needle lies among what it keeps, so its scores follow from the positions.
#include <gtest/gtest.h>

#include <numeric>

#include "engine/layer_scoring.h"
#include "eval/metrics.h"
#include "eval/python_text.h"
#include "eval/ruler_tasks.h"
#include "io/input_file.h"
#include "io/jsonl.h"
#include "support/eval_data.h"
#include "support/must.h"

namespace curdkv::eval {
namespace {

using curdkv::testing::make_press;
using curdkv::testing::must;

// A layer of so many tokens about which nothing is known but their order.
class PositionsOnly : public LayerView {
 public:
  explicit PositionsOnly(int64_t n) {
    n_tokens = n;
    positions.resize(static_cast<size_t>(n));
    std::iota(positions.begin(), positions.end(), 0);
    n_head_kv = 1;
  }
  ggml_tensor* keys(ScoreGraph&, int64_t, int64_t) override { return nullptr; }
  ggml_tensor* values(ScoreGraph&, int64_t, int64_t) override { return nullptr; }
  ggml_tensor* queries(ScoreGraph&, int64_t, int64_t) override { return nullptr; }
  ggml_tensor* without_rope(ScoreGraph&, ggml_tensor*, int64_t) override { return nullptr; }
  Result<std::vector<float>> output_matrix() override { return std::vector<float>(); }
  Result<std::vector<float>> mean_rotation(int64_t, int64_t) override { return std::vector<float>(); }
  Result<Scores> reconstruction() override { return Scores(); }
  Result<Scores> reconstruction_per_input() override { return Scores(); }
  std::vector<float> gaussian(uint64_t, int64_t, int64_t, int64_t) override { return {}; }
  Result<void> in_parallel(int64_t n, const std::function<void(int64_t)>& work) override {
    for (int64_t i = 0; i < n; ++i) work(i);
    return {};
  }
  Result<std::vector<std::vector<float>>> run(const Build&) override {
    return std::vector<std::vector<float>>();
  }
};

// What is left of a context whose tokens are its characters.
std::string kept_text(const std::string& context, double ratio) {
  PositionsOnly layer(std::ssize(context));
  LayerScores scores(layer);
  const KeptTokens kept = must(select_tokens(scores, make_press("streamingllm", ratio), 0, 0, 1));
  std::string out;
  for (const int32_t t : kept[0]) out += context[static_cast<size_t>(t)];
  return out;
}

// Needles found of all samples at 30, 50, 70 and 90 % removed: tables 4 and 15 of the paper, times the number
// of samples (shared by both models). 0: no table tells, as the model itself fails there.
struct PaperCounts {
  const char* task;
  int hits[4];
};
constexpr PaperCounts kPaper[] = {{"niah_single_2", {37, 23, 15, 8}},
                                  {"niah_single_3", {40, 26, 16, 6}},
                                  {"niah_multikey_1", {34, 27, 17, 5}},
                                  {"niah_multikey_2", {32, 22, 10, 4}}};

TEST(PaperSubset, IsRegeneratedAndStreamingLlmFollowsFromPositions) {
  CURDKV_NEEDS_DATA(subset, "ruler/ruler_paper_16k_samples.json");
  CURDKV_NEEDS_DATA(essays, "ruler/pg_haystack_sentences.tsv");
  CURDKV_NEEDS_DATA(folder, "wonderwords");
  const Haystack haystack = must(Haystack::read(essays));
  const WordList words(must(read_file(folder + "/adjectivelist.txt")),
                       must(read_file(folder + "/nounlist.txt")));
  const Json tasks = Json::parse(must(read_file(subset)))["tasks"];
  int n_samples = 0;
  for (const auto& [task, of_task] : tasks.items()) {
    RulerSettings settings;
    settings.rules = RulerRules::v1;
    settings.max_tokens = 16384;
    const CountTokens fits = [](const std::string&) -> Result<int64_t> { return 0; };
    const auto generator = must(NeedleGenerator::create(task, settings, {&haystack, &words}, fits));
    generator->resume(of_task["num_haystack"], of_task["sizing_calls"]);
    int hits[4] = {};
    Sample sample = must(generator->next());
    for (const Json& expected : of_task["samples"]) {
      while (sample.index < expected["sample"]) sample = must(generator->next());
      SCOPED_TRACE(task + " " + expected["sample"].dump());
      EXPECT_EQ(generator->depths(), expected["pos"].get<std::vector<size_t>>());
      EXPECT_EQ(sample.references, expected["answers"].get<std::vector<std::string>>());
      EXPECT_NE(sample.question.find(expected["query"].get<std::string>()), std::string::npos);
      EXPECT_EQ(decode_utf8(sample.context + sample.question + sample.answer_prefix).size(),
                expected["chars"]);
      ++n_samples;
      constexpr double kRatios[] = {0.3, 0.5, 0.7, 0.9};
      for (size_t r = 0; r < 4; ++r) {
        hits[r] +=
            score_of(*find_task(task), kept_text(sample.context, kRatios[r]), sample.references, {}) == 1;
      }
    }
    for (const PaperCounts& paper : kPaper) {
      if (task != paper.task) continue;
      EXPECT_TRUE(std::equal(hits, hits + 4, paper.hits))
          << task << ": " << hits[0] << " " << hits[1] << " " << hits[2] << " " << hits[3];
    }
  }
  EXPECT_EQ(n_samples, 400);
}

}  // namespace
}  // namespace curdkv::eval
