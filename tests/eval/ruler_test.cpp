// RULER's generator against the original's prompts, and its pieces against CPython.
#include "eval/ruler.h"

#include <gtest/gtest.h>

#include <map>

#include "eval/builtin.h"
#include "eval/python_text.h"
#include "io/input_file.h"
#include "io/jsonl.h"
#include "support/eval_data.h"
#include "support/must.h"

namespace curdkv::eval {
namespace {

using curdkv::testing::must;

WordList wonderwords(const std::string& folder) {
  return {must(read_file(folder + "/adjectivelist.txt")), must(read_file(folder + "/nounlist.txt"))};
}

Result<int64_t> count_words(const std::string& text) {
  return std::ssize(split(decode_utf8(text)));
}

// random.seed(42) in CPython 3.11.
TEST(PythonRandom, DrawsAsCPython) {
  PythonRandom r(42);
  EXPECT_EQ(r.bits(32), 2746317213u);
  EXPECT_EQ(r.between(1000000, 9999999), 2867825u);
  EXPECT_EQ(r.sample(40, 4), (std::vector<size_t>{1, 17, 15, 14}));
  EXPECT_EQ(r.sample(10, 7), (std::vector<size_t>{2, 1, 8, 4, 3, 0, 6}));
  std::vector<int> four = {0, 1, 2, 3};
  PythonRandom(42).shuffle(four);
  EXPECT_EQ(four, (std::vector<int>{2, 1, 3, 0}));
  EXPECT_EQ(r.below(1), 0u);
}

TEST(WordList, IsSortedAndUnique) {
  // "blue-" comes before "blue-eyed-", but blue's words with nouns from "f" come after blue-eyed's.
  const WordList words("red\nblue-eyed \nblue\nred\n", "zebra\nant\neyed-ant\nzebra");
  std::vector<std::string> all;
  for (uint32_t i = 0; i < words.size(); ++i) all.push_back(words.at(i));
  EXPECT_EQ(all,
            (std::vector<std::string>{"blue-ant", "blue-eyed-ant", "blue-eyed-eyed-ant", "blue-eyed-zebra",
                                      "blue-zebra", "red-ant", "red-eyed-ant", "red-zebra"}));
}

TEST(WordList, IsWonderwords) {
  CURDKV_NEEDS_DATA(folder, "wonderwords");
  const WordList words = wonderwords(folder);
  EXPECT_EQ(words.size(), 6175260u);
  EXPECT_EQ(words.at(0), "Early-ATM");
  EXPECT_EQ(words.at(1000000), "courageous-formal");
  EXPECT_EQ(words.at(words.size() - 1), "zonked-zucchini");
}

TEST(Haystack, CutsWordsAndRepeats) {
  const Haystack table = must(Haystack::from_table("1\tOne two.\n0\tThree four.\n1\tFive six.\n"));
  EXPECT_EQ(table.n_words(), 5);  // "four.Five" is one
  EXPECT_EQ(table.sentences(3), (std::vector<std::string>{"One two.", "Three"}));
  EXPECT_EQ(table.sentences(4), (std::vector<std::string>{"One two.", "Three four.", "Five"}));
  EXPECT_EQ(table.sentences(6), (std::vector<std::string>{"One two.", "Three four.", "Five six.", "One"}));
  const Haystack text = must(Haystack::from_text("A b.\n\nC \"d!\" E?f g"));
  EXPECT_EQ(text.sentences(6), (std::vector<std::string>{"A b.", "C \"d!\"", "E?f g"}));
  const auto code = [](const Result<Haystack>& r) { return r ? std::optional<ErrorCode>() : r.error().code; };
  EXPECT_EQ(code(Haystack::from_table("One two.")), ErrorCode::corrupt);
  EXPECT_EQ(code(Haystack::from_text(" \n")), ErrorCode::bad_input);
  EXPECT_EQ(code(Haystack::read("/nowhere")), ErrorCode::io);
}

TEST(Ruler, EqualsTheOriginal) {
  CURDKV_NEEDS_DATA(goldens, "ruler/ruler_goldens_1024words.jsonl");
  CURDKV_NEEDS_DATA(essays, "ruler/pg_haystack_sentences.tsv");
  CURDKV_NEEDS_DATA(folder, "wonderwords");
  const Haystack haystack = must(Haystack::read(essays));
  const WordList words = wonderwords(folder);
  std::map<std::string, RulerGenerator> generators;
  int n_equal = 0;
  for (const JsonLine& line : must(read_jsonl(goldens))) {
    const Json& row = line.object();
    const std::string version = row["ruler_version"], task = row["task"];
    SCOPED_TRACE(version + " " + task + " " + row["sample"].dump());
    auto it = generators.find(version + task);
    if (it == generators.end()) {
      RulerSettings settings;
      settings.rules = version == "v1" ? RulerRules::v1 : RulerRules::v2;
      settings.max_tokens = 1024;
      it = generators
               .emplace(version + task,
                        must(RulerGenerator::create(task, settings, haystack, words, count_words)))
               .first;
      EXPECT_EQ(it->second.size(), row["num_haystack"]);
    }
    const Sample sample = must(it->second.next());
    EXPECT_EQ(sample.context, row["context"]);
    EXPECT_EQ(sample.question, row["question"]);
    EXPECT_EQ(sample.answer_prefix, row["answer_prefix"]);
    EXPECT_EQ(sample.references, row["outputs"].get<std::vector<std::string>>());
    n_equal += sample.context == row["context"];
  }
  EXPECT_EQ(n_equal, 48);
}

TEST(Ruler, EqualsThePublishedFileOfMultikey3) {
  CURDKV_NEEDS_DATA(published, "kvcache-factory/ruler_4096_niah_multikey_3.jsonl");
  const Haystack haystack = must(Haystack::from_text(kBuiltinHaystack));
  const WordList words("a", "b");  // this task draws none
  RulerSettings settings;
  settings.rules = RulerRules::v1;
  RulerGenerator generator = must(RulerGenerator::resume(
      "niah_multikey_3", settings, haystack, words, [](const std::string&) -> Result<int64_t> { return 0; },
      50, 3));
  int n_equal = 0;
  for (const JsonLine& line : must(read_jsonl(published))) {
    const Sample sample = must(generator.next());
    n_equal += sample.context + sample.question + sample.answer_prefix == line.object()["input"];
  }
  EXPECT_EQ(n_equal, 500);
}

}  // namespace
}  // namespace curdkv::eval
