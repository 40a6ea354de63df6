#include "eval/ruler.h"

#include "base/try.h"
#include "eval/ruler_tasks.h"
#include "eval/task.h"

namespace curdkv::eval {

RulerGenerator::RulerGenerator(std::string_view task, const RulerSettings& settings, CountTokens count)
    : task_(task),
      settings_(settings),
      count_(std::move(count)),
      answer_tokens_(find_task(task)->n_predict) {}

Result<std::unique_ptr<RulerGenerator>> RulerGenerator::create(std::string_view task,
                                                               const RulerSettings& settings,
                                                               const RulerTexts& texts, CountTokens count) {
  std::unique_ptr<RulerGenerator> out;
  if (task == "vt") {
    out = make_chains(settings, std::move(count));
  } else if (task == "cwe") {
    out = make_common_words(settings, *texts.words, std::move(count));
  } else if (task == "fwe") {
    out = make_frequent_words(settings, std::move(count));
  } else if (task.starts_with("qa_") && texts.questions != nullptr) {
    out = make_questions(task, settings, *texts.questions, std::move(count));
  } else {
    CURDKV_TRY(out, NeedleGenerator::create(task, settings, texts, std::move(count)));
  }
  CURDKV_CHECK(out->find_size());
  return out;
}

Sample RulerGenerator::numbered(Sample sample) {
  sample.task = task_;
  sample.index = n_made_++;
  sample.origin = task_ + " " + std::to_string(sample.index);
  return sample;
}

Error RulerGenerator::too_few_tokens() const {
  return {ErrorCode::bad_argument, std::to_string(settings_.max_tokens) + " tokens are too few for " + task_ +
                                       " and the " + std::to_string(answer_tokens_) + " of its answer"};
}

}  // namespace curdkv::eval
