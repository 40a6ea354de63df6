// RULER's tasks, made as the original's scripts make them (hsiehjackson/RULER and NVIDIA/RULER, Apache-2.0):
// the same seed, words and haystack give the same prompts, byte for byte. A prompt is split into context,
// question and the answer's beginning as in kvpress's datasets.
#pragma once

#include <functional>
#include <limits>
#include <memory>

#include "eval/haystack.h"
#include "eval/qa_data.h"
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
  int64_t max_tokens = 4096;  // prompt and answer
  uint32_t seed = 42;
};

// What prompts are made of.
struct RulerTexts {
  const Haystack* haystack;
  const WordList* words;
  const QaData* questions = nullptr;  // of the qa tasks, which cannot be made without
};

class RulerGenerator {
 public:
  // Finds the size of the prompts, which takes some draws. The texts must outlive the generator. Errors:
  // bad_argument for a task that cannot be made, too few tokens or too few words for it; those of `count`.
  static Result<std::unique_ptr<RulerGenerator>> create(std::string_view task, const RulerSettings& settings,
                                                        const RulerTexts& texts, CountTokens count);
  virtual ~RulerGenerator() = default;

  virtual Result<void> find_size() = 0;
  virtual Result<Sample> next() = 0;  // samples follow each other in one stream of random numbers
  virtual int64_t most_samples() const {
    return std::numeric_limits<int64_t>::max();
  }                                       // that next() can make
  int64_t size() const { return size_; }  // of a prompt: words, lines or documents, as the task has it

 protected:
  RulerGenerator(std::string_view task, const RulerSettings& settings, CountTokens count);
  Sample numbered(Sample sample);  // the next one of the task
  Error too_few_tokens() const;

  std::string task_;
  RulerSettings settings_;
  CountTokens count_;
  int64_t answer_tokens_;
  int64_t size_ = 0, n_made_ = 0;
};

}  // namespace curdkv::eval
