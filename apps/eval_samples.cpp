#include "eval_samples.h"

#include <algorithm>
#include <filesystem>
#include <limits>

#include "base/try.h"
#include "command.h"
#include "eval/builtin.h"
#include "eval/dataset.h"
#include "eval/ruler.h"
#include "io/input_file.h"
#include "numbers.h"
#include "terminal.h"

namespace curdkv::app {

using namespace curdkv::eval;

namespace {

bool is_in_group(const TaskInfo& task, const std::string& group) {
  if (group == "ruler") return task.name.starts_with("niah_");
  if (group == "ruler_all") return task.benchmark == Benchmark::ruler;
  return group == "longbench" && task.benchmark == Benchmark::longbench;
}

bool is_group(const std::string& name) {
  return std::any_of(list_tasks().begin(), list_tasks().end(),
                     [&](const TaskInfo& t) { return is_in_group(t, name); });
}

Result<WordList> load_words(const TaskInfo& task, const std::string& folder) {
  if (folder.empty()) return WordList(kBuiltinAdjectives, kBuiltinNouns);
  CURDKV_TRY(const std::string adjectives, read_text(folder + "/adjectivelist.txt"));
  CURDKV_TRY(const std::string nouns, read_text(folder + "/nounlist.txt"));
  std::string verbs;  // only cwe takes them
  std::error_code ignored;
  if (std::filesystem::exists(folder + "/verblist.txt", ignored)) {
    CURDKV_TRY(verbs, read_text(folder + "/verblist.txt"));
  } else if (task.name == "cwe") {
    note("there is no verblist.txt in " + folder + ": cwe is made of nouns and adjectives, unlike RULER's");
  }
  WordList out(adjectives, nouns, verbs);
  if (out.size() == 0) return Error{ErrorCode::bad_input, "the word lists in " + folder + " are empty"};
  return out;
}

Result<Haystack> load_haystack(const std::string& path) {
  return path.empty() ? Haystack::from_text(kBuiltinHaystack) : Haystack::read(path);
}

std::string file_name(const std::string& path, const char* otherwise) {
  return path.empty() ? otherwise : std::filesystem::path(path).lexically_normal().filename().string();
}

}  // namespace

void SampleOptions::add_to(CLI::App& app) {
  app.add_option(
         "--task", tasks,
         "tasks, separated by commas; ruler (its 8 needle tasks), ruler_all (13) and longbench (16) are "
         "groups")
      ->type_name("TASK")
      ->delimiter(',')
      ->allow_extra_args(false);
  app.add_option("--samples", n_samples, "samples of each task")
      ->type_name("N")
      ->transform(whole_number(1, int64_t{1} << 24))
      ->capture_default_str();
  app.add_option(
         "--context-tokens", n_context,
         "RULER: tokens of a prompt and its answer (0: 4096); LongBench: documents that have more lose "
         "their middle (0: no limit)")
      ->type_name("N")
      ->transform(whole_number(0, kMostTokens))
      ->capture_default_str();
  app.add_option("--data", data,
                 "folder with TASK.jsonl files as LongBench publishes them, or RULER's; or one such file")
      ->type_name("PATH");
  app.add_option("--haystack", haystack,
                 "text to hide needles in: plain, or .tsv with a sentence a line (default: a built-in one)")
      ->type_name("FILE");
  app.add_option("--words", words,
                 "folder with adjectivelist.txt, nounlist.txt and, for cwe, verblist.txt, as in wonderwords "
                 "(default: built-in lists)")
      ->type_name("DIR");
  app.add_option("--squad", squad, "SQuAD 2.0's file (dev-v2.0.json), to make RULER's qa_1 of")
      ->type_name("FILE");
  app.add_option("--hotpotqa", hotpotqa,
                 "HotpotQA's file (hotpot_dev_distractor_v1.json), to make RULER's qa_2 of")
      ->type_name("FILE");
  app.add_option("--ruler-rules", rules,
                 "how RULER's prompts are made and sized: v1 (2024, the paper's: in steps) or v2 (2026: the "
                 "most that fits)")
      ->check(CLI::IsMember({"v1", "v2"}))
      ->capture_default_str();
}

Result<std::vector<const TaskInfo*>> SampleOptions::resolve_tasks() const {
  for (const std::string& name : tasks) {
    if (!is_group(name) && find_task(name) == nullptr) {
      std::string known;
      for (const TaskInfo& t : list_tasks()) known += " " + std::string(t.name);
      return Error{ErrorCode::bad_argument,
                   "there is no task '" + name + "'; known: ruler ruler_all longbench" + known};
    }
  }
  std::vector<const TaskInfo*> out;
  for (const TaskInfo& t : list_tasks()) {
    for (const std::string& name : tasks) {
      if (is_in_group(t, name) || name == t.name) {
        out.push_back(&t);
        break;
      }
    }
  }
  if (out.empty())
    return Error{ErrorCode::bad_argument, "--task is required: niah_single_1, ruler, qasper, ..."};
  return out;
}

Result<std::vector<Sample>> SampleOptions::load(const TaskInfo& task, const Tokenizer& tokenizer,
                                                uint64_t seed) const {
  const std::string in_folder = data + "/" + std::string(task.name) + ".jsonl";
  std::error_code ignored;
  if (!data.empty() && std::filesystem::is_regular_file(data, ignored)) {
    return read_samples(data, task, n_samples);
  }
  if (!data.empty() && (std::filesystem::exists(in_folder, ignored) || !is_made(task))) {
    return read_samples(in_folder, task, n_samples);
  }
  if (is_made(task)) return generate(task, tokenizer, seed);
  const char* or_made = task.name == "qa_1"   ? ", or SQuAD's file with --squad"
                        : task.name == "qa_2" ? ", or HotpotQA's file with --hotpotqa"
                                              : "";
  return Error{ErrorCode::bad_argument,
               std::string(task.name) + " is read from a file: name its folder with --data" + or_made};
}

bool SampleOptions::is_made(const TaskInfo& task) const {
  if (task.name == "qa_1") return !squad.empty();
  if (task.name == "qa_2") return !hotpotqa.empty();
  return task.benchmark == Benchmark::ruler;
}

Result<std::vector<Sample>> SampleOptions::generate(const TaskInfo& task, const Tokenizer& tokenizer,
                                                    uint64_t seed) const {
  if (seed > std::numeric_limits<uint32_t>::max()) {
    return Error{ErrorCode::bad_argument, "RULER's generator takes a --seed below 2^32"};
  }
  CURDKV_TRY(const Haystack hay, load_haystack(haystack));
  CURDKV_TRY(const WordList list, load_words(task, words));
  RulerTexts texts = {&hay, &list};
  QaData questions;
  if (task.name.starts_with("qa_")) {
    CURDKV_TRY(questions, task.name == "qa_1" ? read_squad(squad) : read_hotpotqa(hotpotqa));
    texts.questions = &questions;
  }
  const CountTokens count = [&](const std::string& text) -> Result<int64_t> {
    if (interrupted()) return Error{ErrorCode::cancelled, "stopped"};
    CURDKV_TRY(const std::vector<Token> tokens, tokenizer.tokenize(text, false, false));
    return std::ssize(tokens);
  };
  RulerSettings settings;
  settings.rules = rules == "v1" ? RulerRules::v1 : RulerRules::v2;
  if (n_context > 0) settings.max_tokens = n_context;
  settings.seed = static_cast<uint32_t>(seed);
  CURDKV_TRY(const auto generator, RulerGenerator::create(task.name, settings, texts, count));
  std::vector<Sample> out;
  for (int64_t i = 0; i < std::min(n_samples, generator->most_samples()); ++i) {
    CURDKV_TRY(Sample sample, generator->next());
    out.push_back(std::move(sample));
  }
  return out;
}

std::vector<std::string> SampleOptions::files(const std::vector<const TaskInfo*>& of) const {
  std::vector<std::string> out = {haystack, data, squad, hotpotqa};
  for (const char* list : {"adjective", "noun", "verb"}) out.push_back(words + "/" + list + "list.txt");
  for (const TaskInfo* task : of) out.push_back(data + "/" + std::string(task->name) + ".jsonl");
  return out;
}

Json SampleOptions::describe() const {
  Json out = {{"data", file_name(data, "")},
              {"ruler_rules", rules},
              {"haystack", file_name(haystack, "built-in")},
              {"words", file_name(words, "built-in")}};
  if (!squad.empty()) out["squad"] = file_name(squad, "");
  if (!hotpotqa.empty()) out["hotpotqa"] = file_name(hotpotqa, "");
  return out;
}

}  // namespace curdkv::app
