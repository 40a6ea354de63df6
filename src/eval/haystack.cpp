#include "eval/haystack.h"

#include <algorithm>

#include "base/try.h"
#include "base/utf8.h"
#include "io/input_file.h"

namespace curdkv::eval {

void Haystack::add(std::string text, bool joined) {
  n_words_ += std::count(text.begin(), text.end(), ' ') + (joined ? 0 : 1);
  sentences_.push_back({std::move(text), n_words_, joined});
}

Result<Haystack> Haystack::checked() && {
  if (n_words_ == 0) return Error{ErrorCode::bad_input, "the haystack has no sentences"};
  return std::move(*this);
}

Result<Haystack> Haystack::from_table(std::string_view tsv) {
  Haystack out;
  bool joined = false;
  int64_t number = 0;
  for (const std::string_view line : lines_of(tsv)) {
    ++number;
    if (line.empty()) continue;
    if (line.size() < 3 || (line[0] != '0' && line[0] != '1') || line[1] != '\t') {
      return Error{ErrorCode::corrupt,
                   "line " + std::to_string(number) + ": expected 0 or 1, a tabulator and a sentence"};
    }
    out.add(std::string(line.substr(2)), joined);
    joined = line[0] == '0';
  }
  return std::move(out).checked();
}

Result<Haystack> Haystack::from_text(std::string_view text) {
  Haystack out;
  std::string sentence;
  bool blank = false, ended = false;
  for (const char c : text) {
    if (c == ' ' || c == '\n' || c == '\t' || c == '\r') {
      blank = true;
      continue;
    }
    if (blank && !sentence.empty()) {
      if (ended) {
        out.add(std::exchange(sentence, {}), false);
      } else {
        sentence += ' ';
      }
    }
    blank = false;
    sentence += c;
    ended = c == '.' || c == '!' || c == '?' || (ended && (c == '"' || c == '\'' || c == ')'));
  }
  if (!sentence.empty()) out.add(std::move(sentence), false);
  return std::move(out).checked();
}

Result<Haystack> Haystack::read(const std::string& path) {
  CURDKV_TRY(const std::string text, read_text(path));
  if (find_invalid_utf8(text) != std::string_view::npos) {
    return Error{ErrorCode::corrupt, path + " is not UTF-8 text"};
  }
  auto out = path.ends_with(".tsv") ? from_table(text) : from_text(text);
  if (!out) return Error{out.error().code, path + ": " + out.error().message};
  return out;
}

std::vector<std::string> Haystack::sentences(int64_t n_words) const {
  std::vector<std::string> out;
  for (int64_t before = 0; before < n_words; before += n_words_) {  // words of earlier rounds
    for (const Sentence& s : sentences_) {
      const int64_t n_missing = before + s.end - n_words;
      if (n_missing <= 0) {
        out.push_back(s.text);
        continue;
      }
      size_t end = s.text.size();
      for (int64_t i = 0; i < n_missing && end != std::string::npos; ++i) end = s.text.rfind(' ', end - 1);
      // A sentence that only continues a word beyond the end has nothing of its own.
      if (end != std::string::npos) out.push_back(s.text.substr(0, end));
      break;
    }
  }
  return out;
}

}  // namespace curdkv::eval
