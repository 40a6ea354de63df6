// How fast, on how much memory: prefill, compression, extension and decoding at several depths, presses and
// ratios, with llama.cpp beside them on request.
//
// Repetitions go round: each does the work once with every engine and press, forwards and backwards in turn,
// so that whatever else the machine does meets all of them.
#pragma once

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "curdkv/executor.h"

namespace curdkv::measure {

enum class Test { prefill, compress, extend, decode };
const char* to_string(Test test);
std::optional<Test> test_named(const std::string& name);

struct BenchOptions {
  std::vector<int64_t> depths;  // tokens of context
  int64_t n_prompt = 0;         // tokens appended at once to a context: a question; at depth 0, read alone
  int64_t n_gen = 0;            // tokens decoded one by one
  int n_repeat = 5;
  std::set<Test> tests;
  std::vector<Press> presses;
  bool against_llama_cpp = false;
  ExecutorParams executor;
  uint64_t seed = 42;  // of the tokens, which are random
  // Called before and after each repetition of a test: which, and repetitions done of all.
  std::function<void(const std::string& doing, int64_t done, int64_t total)> progress;
};

// One test of one engine and press at one depth.
struct Row {
  std::string engine, press;
  Test test = Test::prefill;
  double compression_ratio = 0;
  int64_t depth = 0;           // tokens of the context; of prefill and compress, those that are read
  int64_t n_tokens = 0;        // the test's work
  std::vector<double> ts;      // tokens per second, a repetition each
  std::vector<double> ratios;  // to llama.cpp in the same repetition; empty without it
  // What was read of weights and cache, or computed, per second of the median repetition; and the most the
  // machine does, measured between the repetitions.
  std::optional<double> gbytes_per_s, gflops, limit;
  size_t kv_bytes = 0;  // after the test's context was read
  // Prefill: the most resident while reading. Others: what was resident. Without other engines' and presses'
  // share, whose caches and weights may be there as well.
  std::optional<size_t> rss_peak_bytes;

  double avg_ts() const;
  double stddev_ts() const;
  double median_ts() const;
};
double median(std::vector<double> values);  // of at least one

// Hands over each row as soon as it is measured. Errors: bad_argument (nothing to do), else those of
// Executor.
Result<void> run(const Model& model, const BenchOptions& options,
                 const std::function<Result<void>(const Row&)>& sink);

}  // namespace curdkv::measure
