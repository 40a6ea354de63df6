// qa_1 and qa_2 (qa.py): a question of SQuAD or HotpotQA, and its documents among others. Where v1's script
// has all documents in a prompt, it takes those of the next questions from the list as it was shuffled, which
// are others; here they stay the questions' own.
#include <algorithm>

#include "base/try.h"
#include "eval/ruler_tasks.h"

namespace curdkv::eval {
namespace {

class QuestionGenerator : public SizedGenerator {
 public:
  QuestionGenerator(std::string_view task, const RulerSettings& settings, const QaData& data,
                    CountTokens count)
      : SizedGenerator(task, settings, std::move(count)), data_(&data), random_(settings.seed) {
    sizing_.max_tokens = settings.max_tokens;
    sizing_.answer_tokens = answer_tokens_;
    sizing_.step = 10;
    for (const QaQuestion& q : data.questions) {
      sizing_.least = std::max(sizing_.least, std::ssize(q.documents));
    }
    if (settings.rules == RulerRules::v1) sizing_.most = std::ssize(data.documents);  // v2 repeats them
  }

  int64_t most_samples() const override { return std::ssize(data_->questions); }

 private:
  Sample make(int64_t size, int64_t index) override {
    const QaQuestion& question = data_->questions[static_cast<size_t>(index)];
    std::vector<std::string> documents = draw(question, static_cast<size_t>(size));
    PythonRandom(settings_.seed).shuffle(documents);
    for (size_t i = 0; i < documents.size(); ++i) {
      documents[i] = "Document " + std::to_string(i + 1) + ":\n" + documents[i];
    }
    const std::string task =
        "Answer the question based on the given documents. Only give me the answer and do not output any "
        "other "
        "words.\n\n";
    Sample out;
    out.context = task + "The following are given documents.\n\n" + join(documents, "\n\n") + "\n\n";
    out.question = task + "Question: " + question.text + " ";
    out.answer_prefix = "Answer:";
    out.references = question.answers;
    return out;
  }

  // The question's own, then those of its article, then any.
  std::vector<std::string> draw(const QaQuestion& question, size_t size) {
    const size_t n = data_->documents.size();
    std::vector<std::string> out;
    if (size >= n) {  // all, from the first again when there are too few
      for (size_t i = 0; i < size; ++i) out.push_back(data_->documents[i % n]);
      return out;
    }
    std::vector<size_t> taken = question.documents, from = question.others;
    if (size > taken.size() + from.size()) {
      taken.insert(taken.end(), from.begin(), from.end());
      from.clear();
      for (size_t i = 0; i < n; ++i) {
        if (std::find(taken.begin(), taken.end(), i) == taken.end()) from.push_back(i);
      }
    }
    const size_t n_missing = size - std::min(size, taken.size());
    for (const size_t i : random_.sample(from.size(), n_missing)) taken.push_back(from[i]);
    for (const size_t i : taken) out.push_back(data_->documents[i]);
    return out;
  }

  std::string counted_answers(const Sample& sample) const override { return python_list(sample.references); }

  const QaData* data_;
  PythonRandom random_;
};

}  // namespace

std::unique_ptr<RulerGenerator> make_questions(std::string_view task, const RulerSettings& settings,
                                               const QaData& data, CountTokens count) {
  return std::make_unique<QuestionGenerator>(task, settings, data, std::move(count));
}

}  // namespace curdkv::eval
