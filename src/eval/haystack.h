// Running text to hide needles in: sentences, of which any number of words is taken from the start.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "curdkv/result.h"

namespace curdkv::eval {

class Haystack {
 public:
  // "1<tab>sentence" a line, or "0<tab>sentence" for one that no blank follows: sentences as another program
  // split them. Errors: corrupt naming the line; bad_input if there is none.
  static Result<Haystack> from_table(std::string_view tsv);
  // Plain text; a sentence ends at . ! or ?, closing quotes and brackets included, before white space.
  // Errors: bad_input if there is none.
  static Result<Haystack> from_text(std::string_view text);
  // Of a file: a table if its name ends in .tsv. Errors: as of read_text() and the above; corrupt if it
  // is not UTF-8.
  static Result<Haystack> read(const std::string& path);

  int64_t n_words() const { return n_words_; }
  // The sentences of the first n_words words, the last one cut there; the text repeats when it is too short.
  std::vector<std::string> sentences(int64_t n_words) const;

 private:
  struct Sentence {
    std::string text;
    int64_t end;  // words up to its own end, of the whole text
    bool joined;  // its first word continues the last one of the sentence before
  };
  Result<Haystack> checked() &&;
  void add(std::string text, bool joined);

  std::vector<Sentence> sentences_;
  int64_t n_words_ = 0;
};

}  // namespace curdkv::eval
