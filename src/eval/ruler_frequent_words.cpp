// fwe, frequent words extraction (freq_words_extraction.py): made-up words, each as often as Zipf's law has
// it for its rank. The first is dots, which do not count; the next three are asked for.
#include <algorithm>
#include <cmath>
#include <set>

#include "base/try.h"
#include "eval/ruler_tasks.h"

namespace curdkv::eval {
namespace {

constexpr int64_t kLetters = 6;  // of a word
constexpr size_t kAsked = 3;
constexpr double kZeta2 = 1.6449340668482264;  // the sum of 1/k^2: the law's exponent is 2

// How often the word of a rank, from 1, stands in a text of so many words.
int64_t frequency(int64_t n_words, size_t rank) {
  return static_cast<int64_t>(static_cast<double>(n_words) * std::pow(static_cast<double>(rank), -2.0) /
                              kZeta2);
}

class FrequentWordsGenerator : public RulerGenerator {
 public:
  FrequentWordsGenerator(const RulerSettings& settings, CountTokens count)
      : RulerGenerator("fwe", settings, std::move(count)),
        // v1 leaves the answer no room.
        most_tokens_(settings.max_tokens - (settings.rules == RulerRules::v1 ? 0 : answer_tokens_)),
        step_(most_tokens_ / 32),
        random_(settings.seed) {}

  Result<void> find_size() override {
    if (n_words() <= kAsked) return too_few_tokens();
    const std::vector<std::string> words = draw_words();
    for (size_ = most_tokens_ / kLetters;; size_ += step_) {
      CURDKV_TRY(const int64_t n, count_(prompt_of(make(words, size_))));
      if (n >= most_tokens_) break;
    }
    size_ -= step_;
    return {};
  }

  Result<Sample> next() override {
    const std::vector<std::string> words = draw_words();
    // The rarest of the words that are asked for is there.
    for (int64_t size = size_; frequency(size, kAsked + 1) > 0; size -= step_) {
      Sample sample = make(words, size);
      CURDKV_TRY(const int64_t n, count_(prompt_of(sample)));
      if (n <= most_tokens_) return numbered(std::move(sample));
    }
    return too_few_tokens();
  }

 private:
  size_t n_words() const { return static_cast<size_t>(std::max<int64_t>(most_tokens_ / 50, 0)); }

  // In the order of their ranks.
  std::vector<std::string> draw_words() {
    std::set<std::string> different;
    while (different.size() < n_words())
      different.insert(random_.choices("abcdefghijklmnopqrstuvwxyz", kLetters));
    std::vector<std::string> out(different.begin(), different.end());
    PythonRandom(settings_.seed).shuffle(out);
    out[0] = "...";
    return out;
  }

  Sample make(const std::vector<std::string>& words, int64_t size) const {
    std::vector<std::string> text;
    for (size_t i = 0; i < words.size(); ++i) {
      text.insert(text.end(), static_cast<size_t>(frequency(size, i + 1)), words[i]);
    }
    PythonRandom(settings_.seed).shuffle(text);
    Sample out;
    out.context =
        "Read the following coded text and track the frequency of each coded word. Find the three most "
        "frequently appeared coded words. " +
        join(text, " ") + "\n";
    out.question =
        "Question: Do not provide any explanation. Please ignore the dots '....'. What are the three most "
        "frequently appeared words in the above coded text? ";
    out.answer_prefix =
        "Answer: According to the coded text above, the three most frequently appeared words are:";
    out.references = {words.begin() + 1, words.begin() + 1 + kAsked};
    return out;
  }

  int64_t most_tokens_, step_;
  PythonRandom random_;
};

}  // namespace

std::unique_ptr<RulerGenerator> make_frequent_words(const RulerSettings& settings, CountTokens count) {
  return std::make_unique<FrequentWordsGenerator>(settings, std::move(count));
}

}  // namespace curdkv::eval
