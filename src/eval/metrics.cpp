#include "eval/metrics.h"

#include <algorithm>
#include <map>

#include "eval/code_similarity.h"
#include "eval/python_text.h"

namespace curdkv::eval {
namespace {

bool contains(const CodePoints& text, const CodePoints& part) {
  return text.find(part) != CodePoints::npos;
}

// RULER and kvpress: control characters are dropped (or broken into lines), and white space around the text.
CodePoints without_controls(const std::string& prediction, bool to_line_breaks) {
  CodePoints text = strip(decode_utf8(prediction));
  if (to_line_breaks) {
    std::replace_if(
        text.begin(), text.end(), [](char32_t c) { return c < 0x20; }, U'\n');
  } else {
    std::erase_if(text, [](char32_t c) { return c < 0x20; });
  }
  return strip(text);
}

// Share of the references contained, or whether any is.
double string_match(const CodePoints& prediction, std::span<const std::string> references, bool any) {
  const CodePoints text = lower(prediction);
  double n_found = 0;
  for (const std::string& r : references) n_found += contains(text, lower(decode_utf8(r)));
  if (references.empty()) return 0;
  return any ? n_found > 0 : n_found / static_cast<double>(references.size());
}

std::vector<CodePoints> normalised_words(const std::string& text) {
  CodePoints plain = lower(decode_utf8(text));
  std::erase_if(plain, [](char32_t c) {
    return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c <= 126);
  });
  // Articles go where they stand as words by the rules of regular expressions, which end a word at any other
  // character than a letter or a digit.
  CodePoints out;
  for (size_t at = 0; at < plain.size();) {
    size_t end = at;
    while (end < plain.size() && is_word(plain[end])) ++end;
    const CodePoints word = plain.substr(at, end - at);
    out += word == U"a" || word == U"an" || word == U"the" ? U" " : word;
    if (end < plain.size()) out += plain[end++];
    at = end;
  }
  return split(out);
}

// Those of the numbers in the text that are the expected one; string comparison.
double share_of_numbers(const CodePoints& text, const CodePoints& expected) {
  double n = 0, n_right = 0;
  for (size_t at = 0; at < text.size();) {
    size_t end = at;
    while (end < text.size() && is_digit(text[end])) ++end;
    if (end > at) {
      ++n;
      n_right += text.substr(at, end - at) == expected;
    }
    at = end + 1;
  }
  return n > 0 ? n_right / n : 0;
}

// The digits of "Paragraph 19".
CodePoints paragraph_number(const CodePoints& reference) {
  const CodePoints label = U"Paragraph ";
  for (size_t at = reference.find(label); at != CodePoints::npos; at = reference.find(label, at + 1)) {
    const size_t first = at + label.size();
    size_t end = first;
    while (end < reference.size() && is_digit(reference[end])) ++end;
    if (end > first) return reference.substr(first, end - first);
  }
  return {};
}

double classification(const CodePoints& text, const CodePoints& expected,
                      std::span<const std::string> classes) {
  std::vector<CodePoints> matches;
  for (const std::string& c : classes) {
    if (contains(text, decode_utf8(c))) matches.push_back(decode_utf8(c));
  }
  // The original removes from the list it walks, so the class behind a removed one is passed over.
  for (size_t i = 0; i < matches.size(); ++i) {
    if (matches[i] != expected && contains(expected, matches[i])) {
      matches.erase(matches.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }
  const bool found = std::find(matches.begin(), matches.end(), expected) != matches.end();
  return found ? 1.0 / static_cast<double>(matches.size()) : 0;
}

// The first line without comment or fence.
CodePoints code_line(const CodePoints& text) {
  const size_t first = std::min(text.find_first_not_of(U'\n'), text.size());
  for (const CodePoints& line : split(text.substr(first), U'\n')) {
    if (!contains(line, U"`") && !contains(line, U"#") && !contains(line, U"//")) return line;
  }
  return {};
}

std::string scored_part(const TaskInfo& task, const std::string& prediction, bool kvpress_head) {
  CodePoints text = decode_utf8(prediction);
  if (kvpress_head) {
    text.erase(text.begin(), std::find_if_not(text.begin(), text.end(), is_space));
  } else if (task.first_line_only) {
    text.erase(0, std::min(text.find_first_not_of(U'\n'), text.size()));
  }
  if (task.first_line_only) text.resize(std::min(text.find(U'\n'), text.size()));
  return encode_utf8(text);
}

double score_one(const TaskInfo& task, const std::string& prediction, const std::string& reference,
                 std::span<const std::string> classes, bool levenshtein) {
  const CodePoints text = decode_utf8(prediction), expected = decode_utf8(reference);
  switch (task.metric) {
    case Metric::qa_f1:
      return qa_f1(prediction, reference);
    case Metric::rouge_l:
      return rouge_l(prediction, reference);
    case Metric::classification:
      return classification(text, expected, classes);
    case Metric::retrieval:
      return share_of_numbers(text, paragraph_number(expected));
    case Metric::count:
      return share_of_numbers(text, expected);
    case Metric::code_similarity:
      return fuzz_ratio(code_line(text), expected, levenshtein);
    case Metric::string_match_all:
    case Metric::string_match_any:
      break;  // of all references together
  }
  return 0;
}

}  // namespace

double qa_f1(const std::string& prediction, const std::string& reference) {
  const std::vector<CodePoints> predicted = normalised_words(prediction),
                                expected = normalised_words(reference);
  std::map<CodePoints, int> left;
  for (const CodePoints& w : expected) ++left[w];
  double common = 0;
  for (const CodePoints& w : predicted) common += left[w]-- > 0;
  if (common == 0) return 0;
  const double precision = common / static_cast<double>(predicted.size()),
               recall = common / static_cast<double>(expected.size());
  return 2 * precision * recall / (precision + recall);
}

double score_of(const TaskInfo& task, const std::string& prediction, std::span<const std::string> references,
                std::span<const std::string> classes, const ScoringVariant& variant) {
  if (task.benchmark == Benchmark::ruler) {
    return string_match(without_controls(prediction, variant.nvidia_ruler), references,
                        task.metric == Metric::string_match_any);
  }
  const std::string scored = scored_part(task, prediction, variant.kvpress_head);
  double best = 0;
  for (const std::string& r : references) {
    best = std::max(best, score_one(task, scored, r, classes, variant.levenshtein));
  }
  return best;
}

}  // namespace curdkv::eval
