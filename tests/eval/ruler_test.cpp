// RULER's generator against the original's prompts, and its pieces against CPython.
#include "eval/ruler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>

#include "eval/builtin.h"
#include "eval/dataset.h"
#include "eval/python_text.h"
#include "eval/ruler_tasks.h"
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
  EXPECT_EQ(PythonRandom(7).unit(), 0.32383276483316237);
  EXPECT_EQ(PythonRandom(7).choices("abcdefghijklmnopqrstuvwxyz", 6), "idqbnj");
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

TEST(WordList, HasSingleWords) {
  const WordList words("red\nblue\n", "zebra\nred\n", "go \nblue");
  EXPECT_EQ(words.single_words(), (std::vector<std::string>{"blue", "go", "red", "zebra"}));
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
  std::map<std::string, std::unique_ptr<RulerGenerator>> generators;
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
                        must(RulerGenerator::create(task, settings, {&haystack, &words}, count_words)))
               .first;
      EXPECT_EQ(it->second->size(), row["num_haystack"]);
    }
    const Sample sample = must(it->second->next());
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
  const auto generator =
      must(NeedleGenerator::create("niah_multikey_3", settings, {&haystack, &words},
                                   [](const std::string&) -> Result<int64_t> { return 0; }));
  generator->resume(50, 3);
  int n_equal = 0;
  for (const JsonLine& line : must(read_jsonl(published))) {
    const Sample sample = must(generator->next());
    n_equal += sample.context + sample.question + sample.answer_prefix == line.object()["input"];
  }
  EXPECT_EQ(n_equal, 500);
}

std::string fnv1a(const std::string& text) {
  uint64_t sum = 0xcbf29ce484222325;
  for (const char c : text) sum = (sum ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  char out[17];
  std::snprintf(out, sizeof out, "%016llx", static_cast<unsigned long long>(sum));
  return out;
}

// The words that tests/goldens/ruler.py has in place of wonderwords' lists.
std::string made_up_words(char first, int n) {
  std::string out;
  for (int i = 0; i < n; ++i) out += first + std::to_string(i) + "\n";
  return out + "both\n";
}

Result<int64_t> count_twos(const std::string& text) {
  return (std::ssize(decode_utf8(text)) + 1) / 2;
}

std::string written(const std::string& name, const std::string& text) {
  const std::string path = ::testing::TempDir() + "/curdkv_ruler_" + name;
  std::ofstream(path) << text;
  return path;
}

Sample read_back(const std::string& task, const Json& row) {
  const Json line = {{"input", row["input"]}, {"outputs", row["outputs"]}};
  return must(read_samples(written(task + ".jsonl", line.dump() + "\n"), *find_task(task), 1)).front();
}

TEST(Ruler, EqualsTheOriginalOnMadeUpTexts) {
  std::string essay;
  for (int i = 0; i < 400; ++i) essay += "Sentence " + std::to_string(i) + " is here. ";
  const Haystack haystack = must(Haystack::from_text(essay));
  const WordList words(made_up_words('a', 1500), made_up_words('n', 3000), made_up_words('v', 500));
  const QaData squad = must(read_squad(CURDKV_TEST_DATA "/ruler_squad.json")),
               hotpotqa = must(read_hotpotqa(CURDKV_TEST_DATA "/ruler_hotpotqa.json"));
  std::map<std::string, std::unique_ptr<RulerGenerator>> generators;
  int n_equal = 0;
  for (const JsonLine& line : must(read_jsonl(CURDKV_TEST_DATA "/ruler.jsonl"))) {
    const Json& row = line.object();
    const std::string version = row["ruler_version"], task = row["task"];
    const std::string of = version + " " + task + " " + row["max_tokens"].dump();
    SCOPED_TRACE(of + ", " + row["sample"].dump());
    std::unique_ptr<RulerGenerator>& generator = generators[of];
    if (!generator) {
      RulerSettings settings;
      settings.rules = version == "v1" ? RulerRules::v1 : RulerRules::v2;
      settings.max_tokens = row["max_tokens"];
      const RulerTexts texts = {&haystack, &words, task == "qa_1" ? &squad : &hotpotqa};
      generator = must(RulerGenerator::create(task, settings, texts, count_twos));
      if (!row["size"].is_null()) {
        EXPECT_EQ(generator->size(), row["size"]);
      }
    }
    const Sample sample = must(generator->next());
    const std::string prompt = prompt_of(sample);
    if (row.contains("input")) {
      EXPECT_EQ(prompt, row["input"]);
      const Sample read = read_back(task, row);  // split as kvpress splits it
      EXPECT_EQ(read.context, sample.context);
      EXPECT_EQ(read.question, sample.question);
      EXPECT_EQ(read.answer_prefix, sample.answer_prefix);
    }
    EXPECT_EQ(fnv1a(prompt), row["fnv1a"]);
    EXPECT_EQ(sample.references, row["outputs"].get<std::vector<std::string>>());
    n_equal += fnv1a(prompt) == row["fnv1a"];
  }
  EXPECT_EQ(n_equal, 86);
}

// "" if a sample can be made.
std::string error_of(const std::string& task, int64_t max_tokens, RulerRules rules, const WordList& words,
                     const QaData* data = nullptr) {
  const Haystack haystack = must(Haystack::from_text(kBuiltinHaystack));
  RulerSettings settings;
  settings.max_tokens = max_tokens;
  settings.rules = rules;
  const auto generator = RulerGenerator::create(task, settings, {&haystack, &words, data}, count_twos);
  if (!generator) return generator.error().message;
  const auto sample = (*generator)->next();
  return sample ? "" : sample.error().message;
}

TEST(Ruler, SaysWhatIsTooLittle) {
  const WordList words(kBuiltinAdjectives, kBuiltinNouns);
  const QaData squad = must(read_squad(CURDKV_TEST_DATA "/ruler_squad.json"));
  const struct {
    const char* task;
    int64_t too_few, enough, answer;
  } tasks[] = {{"niah_single_1", 300, 900, 128},
               {"vt", 700, 1500, 30},
               {"cwe", 700, 1500, 120},
               {"fwe", 249, 400, 50},
               {"qa_1", 150, 800, 32}};
  for (const auto& t : tasks) {
    for (const RulerRules rules : {RulerRules::v1, RulerRules::v2}) {
      const bool v1_without_answer = rules == RulerRules::v1 && t.task == std::string("fwe");
      const int64_t n = t.too_few - (v1_without_answer ? 50 : 0);
      EXPECT_EQ(error_of(t.task, n, rules, words, &squad), std::to_string(n) + " tokens are too few for " +
                                                               t.task + " and the " +
                                                               std::to_string(t.answer) + " of its answer");
      EXPECT_EQ(error_of(t.task, t.enough, rules, words, &squad), "") << t.task;
    }
  }
  const WordList few("a\nb\n", "c\nd\n"), thirty(made_up_words('a', 29), ""),
      forty(made_up_words('a', 39), "");
  EXPECT_EQ(error_of("cwe", 2048, RulerRules::v2, few), "cwe needs at least 20 different words; there are 4");
  EXPECT_EQ(error_of("cwe", 2048, RulerRules::v2, thirty), "");
  EXPECT_EQ(error_of("cwe", 8192, RulerRules::v2, thirty),
            "cwe needs at least 40 different words; there are 30");
  for (const RulerRules rules : {RulerRules::v1, RulerRules::v2}) {
    EXPECT_EQ(error_of("cwe", 8192, rules, forty), "");  // as many as there are
  }
  EXPECT_EQ(error_of("qa_1", 4096, RulerRules::v2, words), "RULER's 'qa_1' cannot be made");
  EXPECT_EQ(error_of("qasper", 4096, RulerRules::v2, words), "RULER's 'qasper' cannot be made");
}

// Samples that turn out too long fall back by a step at a time, down to the least that makes a prompt.
TEST(Ruler, FallsBackToTheLeast) {
  const Haystack haystack = must(Haystack::from_text(kBuiltinHaystack));
  const WordList words(kBuiltinAdjectives, kBuiltinNouns);
  for (const RulerRules rules : {RulerRules::v1, RulerRules::v2}) {
    bool is_sized = false;
    std::vector<int64_t> tried;  // lines of noise
    const CountTokens count = [&](const std::string& text) -> Result<int64_t> {
      int64_t n_lines = 0;
      for (size_t at = text.find("The grass"); at != std::string::npos; at = text.find("The grass", at + 1)) {
        ++n_lines;
      }
      tried.push_back(n_lines);
      return is_sized ? 100000 : 20 * n_lines;
    };
    RulerSettings settings;
    settings.rules = rules;
    settings.max_tokens = 1300;
    const auto generator = must(RulerGenerator::create("vt", settings, {&haystack, &words}, count));
    is_sized = true;
    tried.clear();
    const auto sample = generator->next();
    ASSERT_FALSE(sample);
    EXPECT_EQ(sample.error().message, "1300 tokens are too few for vt and the 30 of its answer");
    const int64_t step = rules == RulerRules::v1 ? 10 : 5, example = tried[0] - generator->size();
    EXPECT_EQ(tried[0] - tried[1], step);
    EXPECT_EQ(*std::min_element(tried.begin(), tried.end()), example + 5);
    EXPECT_TRUE(std::is_sorted(tried.rbegin(), tried.rend()));
  }
}

TEST(QaData, IsChecked) {
  const auto said = [](const Result<QaData>& r) { return r ? "" : r.error().message; };
  const auto squad = [&](const std::string& text) { return said(read_squad(written("squad", text))); };
  const auto hotpotqa = [&](const std::string& text) {
    return said(read_hotpotqa(written("hotpotqa", text)));
  };
  const auto says = [](const std::string& message, const std::string& part) {
    EXPECT_NE(message.find(part), std::string::npos) << message;
  };
  says(squad("{"), "is no JSON");
  says(squad("[1]"), "field 'data' is missing or no list");
  says(squad(R"({"data": []})"), "has no question");
  const std::string start = R"({"data": [{"paragraphs": [{"context": "c", "qas": [)";
  says(squad(start + R"({"question": 1, "answers": []}]}]}]})"),
       "field 'question' is missing or no text, at question 1");
  says(squad(start + R"(5]}]}]})"), "field 'question' is missing");
  says(squad(start + R"({"question": "q", "answers": [{}]}]}]}]})"), "field 'text' is missing");
  says(squad(start + R"({"question": "q", "is_impossible": true, "answers": []}]}]}]})"), "has no question");
  EXPECT_EQ(squad(start + R"({"question": "q", "answers": [{"text": "a"}]}]}]}]})"), "");
  says(hotpotqa("{}"), "expected a list");
  says(hotpotqa("[]"), "has no question");
  says(hotpotqa(R"([{"question": "q", "answer": "a"}])"), "field 'context' is missing or no list");
  says(hotpotqa(R"([{"question": "q", "answer": "a", "context": [["t", "s"]]}])"), "titles and sentences");
  says(hotpotqa(R"([{"question": "q", "context": [["t", ["s"]]]}])"), "field 'answer' is missing");
  EXPECT_EQ(hotpotqa(R"([{"question": "q", "answer": "a", "context": [["t", ["s", "u"]]]}])"), "");
}

}  // namespace
}  // namespace curdkv::eval
