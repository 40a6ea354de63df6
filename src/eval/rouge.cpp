// ROUGE-L at summary level, as pip's rouge 1.0.1 has it (rouge_l_summary_level with exclusive=True).
#include <map>
#include <set>

#include "eval/metrics.h"
#include "eval/python_text.h"

namespace curdkv::eval {
namespace {

using Words = std::vector<int>;  // numbers that stand for words

class Vocabulary {
 public:
  // Sentences end at periods; a sentence of white space has one empty word.
  std::vector<Words> sentences(const std::string& text) {
    std::vector<Words> out;
    for (const CodePoints& piece : split(decode_utf8(text), U'.')) {
      if (piece.empty()) continue;
      Words words;
      for (const CodePoints& word : split(piece)) words.push_back(id(word));
      if (words.empty()) words.push_back(id(U""));
      out.push_back(std::move(words));
    }
    return out;
  }

 private:
  int id(const CodePoints& word) { return ids_.emplace(word, static_cast<int>(ids_.size())).first->second; }
  std::map<CodePoints, int> ids_;
};

// Adds the words on one longest common subsequence; which one decides the result, so ties go as rouge's do.
void add_common(const Words& reference, const Words& prediction, std::set<int>& common) {
  const size_t m = reference.size(), n = prediction.size();
  std::vector<std::vector<int>> length(m + 1, std::vector<int>(n + 1));
  for (size_t i = 1; i <= m; ++i) {
    for (size_t j = 1; j <= n; ++j) {
      length[i][j] = reference[i - 1] == prediction[j - 1] ? length[i - 1][j - 1] + 1
                                                           : std::max(length[i - 1][j], length[i][j - 1]);
    }
  }
  for (size_t i = m, j = n; i > 0 && j > 0;) {
    if (reference[i - 1] == prediction[j - 1]) {
      common.insert(reference[--i]);
      --j;
    } else if (length[i - 1][j] > length[i][j - 1]) {
      --i;
    } else {
      --j;
    }
  }
}

double n_distinct(const std::vector<Words>& sentences) {
  std::set<int> all;
  for (const Words& s : sentences) all.insert(s.begin(), s.end());
  return static_cast<double>(all.size());
}

}  // namespace

double rouge_l(const std::string& prediction, const std::string& reference) {
  Vocabulary vocabulary;
  const std::vector<Words> predicted = vocabulary.sentences(prediction),
                           expected = vocabulary.sentences(reference);
  if (predicted.empty() || expected.empty()) return 0;
  std::set<int> common;
  for (const Words& r : expected) {
    for (const Words& p : predicted) add_common(r, p, common);
  }
  const auto n_common = static_cast<double>(common.size());
  const double precision = n_common / n_distinct(predicted), recall = n_common / n_distinct(expected);
  return 2 * precision * recall / (precision + recall + 1e-8);
}

}  // namespace curdkv::eval
