// RULER's tasks, each kind made in a file of its own. RulerGenerator::create() is how to come by them; this
// header is its own, and tests'.
#pragma once

#include "eval/python_random.h"
#include "eval/ruler_sizing.h"

namespace curdkv::eval {

struct NeedleTask;
enum class DrawnKind;

class NeedleGenerator : public SizedGenerator {
 public:
  // Errors: bad_argument for a task that is none of the eight.
  static Result<std::unique_ptr<NeedleGenerator>> create(std::string_view task, const RulerSettings& settings,
                                                         const RulerTexts& texts, CountTokens count);
  // Instead of find_size(): the size is known, and how many prompts the original made to find it.
  void resume(int64_t size, int64_t n_sizing);
  // Where the needles of the last sample went: depth in percent, or the line each was put in front of.
  const std::vector<size_t>& depths() const { return depths_; }

 private:
  NeedleGenerator(const NeedleTask& task, const RulerSettings& settings, const RulerTexts& texts,
                  CountTokens count);
  Sample make(int64_t size, int64_t index) override;
  std::string counted_answers(const Sample& sample) const override;
  std::string draw(DrawnKind kind);
  std::string essay(const std::vector<std::string>& needles, int64_t size);
  std::string lines(const std::vector<std::string>& needles, int64_t size);

  const NeedleTask* shape_;
  RulerTexts texts_;
  PythonRandom random_;
  std::vector<size_t> depths_;
};

std::unique_ptr<RulerGenerator> make_chains(const RulerSettings& settings, CountTokens count);
std::unique_ptr<RulerGenerator> make_common_words(const RulerSettings& settings, const WordList& words,
                                                  CountTokens count);
std::unique_ptr<RulerGenerator> make_frequent_words(const RulerSettings& settings, CountTokens count);
std::unique_ptr<RulerGenerator> make_questions(std::string_view task, const RulerSettings& settings,
                                               const QaData& data, CountTokens count);

// A line of what hides needles and chains.
constexpr const char* kNoise =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";

}  // namespace curdkv::eval
