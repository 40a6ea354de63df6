#include "eval/word_list.h"

#include <algorithm>

#include "io/input_file.h"

namespace curdkv::eval {
namespace {

std::vector<std::string> words_of(std::string_view text) {
  constexpr const char* kBlank = " \t";
  std::vector<std::string> out;
  for (const std::string_view line : lines_of(text)) {
    const size_t first = line.find_first_not_of(kBlank);
    if (first != std::string_view::npos)
      out.emplace_back(line.substr(first, line.find_last_not_of(kBlank) + 1 - first));
  }
  return out;
}

void sort_unique(std::vector<std::string>& items) {
  std::sort(items.begin(), items.end());
  items.erase(std::unique(items.begin(), items.end()), items.end());
}

}  // namespace

WordList::WordList(std::string_view adjective_lines, std::string_view noun_lines, std::string_view verb_lines)
    : nouns_(words_of(noun_lines)), single_words_(words_of(verb_lines)) {
  sort_unique(nouns_);
  std::vector<std::string> adjectives = words_of(adjective_lines);
  single_words_.insert(single_words_.end(), nouns_.begin(), nouns_.end());
  single_words_.insert(single_words_.end(), adjectives.begin(), adjectives.end());
  sort_unique(single_words_);
  for (std::string& a : adjectives) a += '-';
  sort_unique(adjectives);
  for (size_t i = 0; i < adjectives.size();) {
    size_t end = i + 1;
    while (end < adjectives.size() && adjectives[end].starts_with(adjectives[i])) ++end;
    Block block = {n_, adjectives[i], {}};
    if (end > i + 1) {
      for (size_t a = i; a < end; ++a) {
        for (const std::string& noun : nouns_) block.words.push_back(adjectives[a] + noun);
      }
      sort_unique(block.words);
    }
    n_ += static_cast<uint32_t>(block.words.empty() ? nouns_.size() : block.words.size());
    blocks_.push_back(std::move(block));
    i = end;
  }
}

std::string WordList::at(uint32_t index) const {
  const auto after = std::upper_bound(blocks_.begin(), blocks_.end(), index,
                                      [](uint32_t i, const Block& b) { return i < b.first; });
  const Block& block = *std::prev(after);
  const size_t i = index - block.first;
  return block.words.empty() ? block.adjective + nouns_[i] : block.words[i];
}

}  // namespace curdkv::eval
