// How RULER finds the size of its prompts, by the rules of 2024 or of 2026, and what else its tasks share.
#pragma once

#include "eval/ruler.h"

namespace curdkv::eval {

// Sizes count what a task's prompts are made of: words, lines or documents.
struct Sizing {
  int64_t max_tokens = 0;      // of a prompt and its answer
  int64_t answer_tokens = 0;   // of those
  int64_t example_tokens = 0;  // of those, behind what make() makes
  int64_t step = 0;            // v1 tries its multiples; a sample that is too long falls back by it
  int64_t least = 1;           // that makes a prompt
  int64_t most = std::numeric_limits<int64_t>::max();  // that there is
  const char* before_answers = " ";                    // where v1 counts them behind a prompt
  bool beyond_most = false;                            // v1 tries a size beyond it first
};

class SizedGenerator : public RulerGenerator {
 public:
  Result<void> find_size() override;
  Result<Sample> next() override;

 protected:
  using RulerGenerator::RulerGenerator;
  virtual Sample make(int64_t size, int64_t index) = 0;  // the prompt of the task's sample `index`
  virtual void add_example(Sample&) {}
  // The answers as v1 counts them behind a prompt while it looks for the size.
  virtual std::string counted_answers(const Sample& sample) const = 0;
  // Where v2's search starts, by a first prompt.
  virtual Result<int64_t> largest_tried();
  Result<double> tokens_per_unit(int64_t size);

  Sizing sizing_;

 private:
  Result<void> find_size_v1();
  Result<bool> fits_when_sized(int64_t size);
  Result<void> search(int64_t low, int64_t high);
};

std::string join(const std::vector<std::string>& parts, const char* between);
std::string prompt_of(const Sample& sample);
// str() of the list in Python, as far as items are plain text.
std::string python_list(const std::vector<std::string>& items);

}  // namespace curdkv::eval
