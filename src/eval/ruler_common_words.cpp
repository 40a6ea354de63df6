// cwe, common words extraction (common_words_extraction.py): a numbered list in which ten words stand more
// often than all others. In front of it stands an example with its answer.
#include <algorithm>
#include <cmath>

#include "base/try.h"
#include "eval/ruler_tasks.h"

namespace curdkv::eval {
namespace {

constexpr int64_t kCommon = 10;

// Of a list: its different words, and how often common and other words stand in it.
struct Shape {
  int64_t n_words;
  int n_common, n_other;
};

std::string numbered_words(const std::vector<std::string>& words) {
  std::string out;
  for (size_t i = 0; i < words.size(); ++i) {
    out += i > 0 ? " " : "";
    out += std::to_string(i + 1) + ". " + words[i];
  }
  return out;
}

class CommonWordsGenerator : public SizedGenerator {
 public:
  CommonWordsGenerator(const RulerSettings& settings, const WordList& words, CountTokens count)
      : SizedGenerator("cwe", settings, std::move(count)),
        words_(words.single_words()),
        random_(settings.seed),
        is_short_(settings.max_tokens < 4096),
        example_(is_short_ ? Shape{20, 3, 1} : Shape{40, 10, 3}) {
    PythonRandom(settings.seed).shuffle(words_);
    sizing_.max_tokens = settings.max_tokens;
    sizing_.answer_tokens = answer_tokens_;
    sizing_.step = sizing_.least = kCommon;
    sizing_.most = std::ssize(words_);
  }

  Result<void> find_size() override {
    if (sizing_.most < example_.n_words) {
      return Error{ErrorCode::bad_argument, "cwe needs at least " + std::to_string(example_.n_words) +
                                                " different words; there are " +
                                                std::to_string(sizing_.most)};
    }
    return SizedGenerator::find_size();
  }

 private:
  Sample make(int64_t size, int64_t) override {
    const Sample example = list(example_);
    Sample out = list(is_short_ ? Shape{size, 6, 1} : Shape{size, 30, 3});
    const char* blank = settings_.rules == RulerRules::v1 ? "" : " ";
    out.context = prompt_of(example) + blank + numbered_words(example.references) + "\n" + out.context;
    return out;
  }

  Sample list(const Shape& shape) {
    Sample out;
    std::vector<std::string> others;
    for (const size_t i : random_.sample(words_.size(), static_cast<size_t>(shape.n_words))) {
      (std::ssize(out.references) < kCommon ? out.references : others).push_back(words_[i]);
    }
    std::vector<std::string> all;
    for (int i = 0; i < shape.n_common; ++i) {
      all.insert(all.end(), out.references.begin(), out.references.end());
    }
    for (int i = 0; i < shape.n_other; ++i) all.insert(all.end(), others.begin(), others.end());
    PythonRandom(settings_.seed).shuffle(all);
    out.context =
        "Below is a numbered list of words. In these words, some appear more often than others. Memorize the "
        "ones that appear most often.\n" +
        numbered_words(all) + "\n";
    out.question = "Question: What are the 10 most common words in the above list? ";
    out.answer_prefix = "Answer: The top 10 words that appear most often in the list are:";
    return out;
  }

  std::string counted_answers(const Sample& sample) const override {
    return numbered_words(sample.references);
  }

  // The original has another, longer list for more words than these; here they are all there is.
  Result<int64_t> largest_tried() override {
    CURDKV_TRY(const double per_word, tokens_per_unit(std::min<int64_t>(4096, sizing_.most)));
    const auto max = static_cast<double>(sizing_.max_tokens);
    return 2 * std::llround((max - std::fmod(max, per_word)) / per_word);
  }

  std::vector<std::string> words_;
  PythonRandom random_;
  bool is_short_;
  Shape example_;
};

}  // namespace

std::unique_ptr<RulerGenerator> make_common_words(const RulerSettings& settings, const WordList& words,
                                                  CountTokens count) {
  return std::make_unique<CommonWordsGenerator>(settings, words, std::move(count));
}

}  // namespace curdkv::eval
