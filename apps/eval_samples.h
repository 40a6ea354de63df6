// Where the samples of an evaluation come from: files, or RULER's generator.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "curdkv/result.h"
#include "curdkv/text.h"
#include "eval/sample.h"
#include "eval/task.h"
#include "io/jsonl.h"

namespace curdkv::app {

// --task, --samples, --context-tokens, --data, --haystack, --words, --squad, --hotpotqa, --ruler-rules.
struct SampleOptions {
  std::vector<std::string> tasks;
  int64_t n_samples = 20, n_context = 0;
  std::string data, haystack, words, squad, hotpotqa, rules = "v2";

  void add_to(CLI::App& app);
  // In the benchmarks' order, each once. Errors: bad_argument for a name that is none.
  Result<std::vector<const eval::TaskInfo*>> resolve_tasks() const;
  // From DATA/<task>.jsonl (or DATA itself) if it is there, or made by RULER's rules. Errors: as
  // read_samples' and RulerGenerator's; bad_argument if the task needs a file.
  Result<std::vector<eval::Sample>> load(const eval::TaskInfo& task, const Tokenizer& tokenizer,
                                         uint64_t seed) const;
  // The files that load() may read for these tasks.
  std::vector<std::string> files(const std::vector<const eval::TaskInfo*>& tasks) const;
  Json describe() const;  // what the samples depend on

 private:
  bool is_made(const eval::TaskInfo& task) const;  // or read from a file
  Result<std::vector<eval::Sample>> generate(const eval::TaskInfo& task, const Tokenizer& tokenizer,
                                             uint64_t seed) const;
};

}  // namespace curdkv::app
