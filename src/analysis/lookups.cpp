#include "analysis/lookups.h"

#include <algorithm>

#include "base/format.h"
#include "eval/python_random.h"

namespace curdkv::analysis {
namespace {

constexpr int64_t kThings = 10;     // of which one is asked for
constexpr int64_t kBeginning = 10;  // words of a passage that are told
constexpr int64_t kPassage = 20;    // and that are to follow

std::vector<std::string> words_of(const std::vector<std::string>& sentences) {
  std::vector<std::string> words;
  for (const std::string& s : sentences) {
    for (size_t at = 0; at < s.size();) {
      const size_t end = std::min(s.find(' ', at), s.size());
      words.push_back(s.substr(at, end - at));
      at = end + 1;
    }
  }
  return words;
}

std::string joined(const std::vector<std::string>& words, size_t first, size_t n) {
  std::string out;
  for (size_t i = first; i < std::min(first + n, words.size()); ++i) {
    if (i > first) out += ' ';
    out += words[i];
  }
  return out;
}

Lookup thing(const std::vector<std::string>& words, const eval::WordList& names, eval::PythonRandom& random) {
  Lookup out;
  const uint32_t asked = random.below(kThings);
  const size_t n = words.size() / kThings;  // in front of each
  for (uint32_t i = 0; i < kThings; ++i) {
    const std::string name = names.at(random.below(names.size()));
    const std::string is = format("The number of the %s is", name.c_str());
    const std::string number = format(" %u.", random.between(100000, 999999));
    out.context += joined(words, i * n, n) + format(" %s%s ", is.c_str(), number.c_str());
    if (i == asked)
      out = {std::move(out.context), format("What is the number of the %s?", name.c_str()), is, number};
  }
  out.context += joined(words, kThings * n, words.size());
  return out;
}

Lookup passage(const std::vector<std::string>& words, eval::PythonRandom& random) {
  Lookup out;
  out.context = joined(words, 0, words.size());
  const auto most = static_cast<uint32_t>(std::max<int64_t>(1, std::ssize(words) - kBeginning - kPassage));
  const size_t first = most / 8 + random.below(std::max(most * 3 / 4, 1u));
  out.answer_prefix = joined(words, first, kBeginning);
  out.question = "Repeat the passage that begins with \"" + out.answer_prefix + "\".";
  out.answer = format(" %s", joined(words, first + kBeginning, kPassage).c_str());
  return out;
}

}  // namespace

std::vector<Lookup> make_lookups(const eval::Haystack& text, const eval::WordList& names, int64_t n_words,
                                 int64_t n_lookups, uint32_t seed) {
  eval::PythonRandom random(seed);
  const std::vector<std::string> all = words_of(text.sentences(std::max(n_words, text.n_words())));
  std::vector<Lookup> out;
  for (int64_t i = 0; i < n_lookups; ++i) {
    const int64_t n = std::min(n_words, std::ssize(all));
    const auto first = all.begin() + random.below(static_cast<uint32_t>(std::ssize(all) - n + 1));
    const std::vector<std::string> words(first, first + n);
    out.push_back(i % 2 == 0 ? thing(words, names, random) : passage(words, random));
  }
  return out;
}

}  // namespace curdkv::analysis
