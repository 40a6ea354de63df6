// RULER's words. Pairs: every "adjective-noun" once, in the order of their characters, picked by index. There
// are millions, so they are not written out: those of one adjective follow each other, except where an
// adjective with a hyphen continues another (blue, blue-eyed), and only such families are sorted out in full.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace curdkv::eval {

class WordList {
 public:
  // Texts with a word a line; white space around words does not count.
  WordList(std::string_view adjectives, std::string_view nouns, std::string_view verbs = {});

  uint32_t size() const { return n_; }  // pairs
  std::string at(uint32_t index) const;
  // Nouns, adjectives and verbs, each once, in the order of their characters.
  const std::vector<std::string>& single_words() const { return single_words_; }

 private:
  struct Block {
    uint32_t first;
    std::string adjective;           // with each noun in turn,
    std::vector<std::string> words;  // or these
  };
  std::vector<std::string> nouns_, single_words_;
  std::vector<Block> blocks_;
  uint32_t n_ = 0;
};

}  // namespace curdkv::eval
