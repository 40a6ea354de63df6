// RULER's needle tasks, made as the original generator makes them (hsiehjackson/RULER niah.py, Apache-2.0):
// the same seed, words and haystack give the same prompts, byte for byte.
#pragma once

#include <functional>

#include "eval/haystack.h"
#include "eval/python_random.h"
#include "eval/sample.h"
#include "eval/word_list.h"

namespace curdkv::eval {

enum class RulerRules {
  v1,  // hsiehjackson/RULER of 2024, what the CurDKV paper ran: haystacks grow by whole steps
  v2,  // NVIDIA/RULER of 2026: the largest haystack that fits
};

// How many tokens a text has, without begin-of-sequence token or chat template.
using CountTokens = std::function<Result<int64_t>(const std::string&)>;

struct RulerSettings {
  RulerRules rules = RulerRules::v2;
  int64_t max_tokens = 4096;  // prompt and the 128 tokens of the answer
  uint32_t seed = 42;
};

struct RulerTask;
enum class DrawnKind;

class RulerGenerator {
 public:
  // Finds the size of the haystack, which takes some draws. The arguments must outlive the generator. Errors:
  // bad_argument for a task that is none of RULER's, or too few tokens for it; those of `count`.
  static Result<RulerGenerator> create(std::string_view task, const RulerSettings& settings,
                                       const Haystack& haystack, const WordList& words, CountTokens count);

  // As create(), the size being known: `n_sizing` is how many prompts the original made to find it.
  static Result<RulerGenerator> resume(std::string_view task, const RulerSettings& settings,
                                       const Haystack& haystack, const WordList& words, CountTokens count,
                                       int64_t size, int64_t n_sizing);

  Result<Sample> next();                  // samples follow each other in one stream of random numbers
  int64_t size() const { return size_; }  // of the haystack: words of an essay, lines otherwise
  // Where the needles of the last sample went: depth in percent, or the line each was put in front of.
  const std::vector<size_t>& depths() const { return depths_; }

 private:
  RulerGenerator(const RulerTask& task, const RulerSettings& settings, const Haystack& haystack,
                 const WordList& words, CountTokens count);
  Result<void> find_size_v1();
  Result<void> find_size_v2();
  Result<void> search(int64_t low, int64_t high);
  Result<int64_t> count_of(int64_t size, bool with_answers);
  Error too_few_tokens() const;
  Sample make(int64_t size);
  std::string draw(DrawnKind kind);
  std::string essay(const std::vector<std::string>& needles, int64_t size);
  std::string lines(const std::vector<std::string>& needles, int64_t size);

  const RulerTask* task_;
  RulerSettings settings_;
  const Haystack* haystack_;
  const WordList* words_;
  CountTokens count_;
  PythonRandom random_;
  int64_t step_ = 0, size_ = 0, n_made_ = 0;
  std::vector<size_t> depths_;
};

}  // namespace curdkv::eval
