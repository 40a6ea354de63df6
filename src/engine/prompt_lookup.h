// Drafts of an answer by prompt lookup: answers about a document quote it, so what followed the last time the
// text went like this is likely to follow again (Saxena, "Prompt Lookup Decoding", 2023). And how much to
// draft: no more than pays on the machine and text at hand.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "curdkv/token.h"

namespace curdkv {

class PromptLookup {
 public:
  static constexpr size_t kMatch = 3;  // tokens that must have been alike before

  explicit PromptLookup(std::span<const Token> text);
  void append(Token token);

  // At most n tokens that followed the latest earlier place where the text's last kMatch tokens stand; none
  // if there is no such place.
  std::vector<Token> draft(size_t n) const;

 private:
  uint64_t key_at(size_t end) const;  // of the kMatch tokens before `end`

  std::vector<Token> text_;
  std::unordered_map<uint64_t, size_t> went_on_at_;  // by key: where, the last time
};

// How many tokens to draft, by what steps took. Drafting goes on while what it saved outweighs what it cost,
// but for one part in a hundred of the time.
class DraftPace {
 public:
  static constexpr size_t kShort = 3, kLong = 7;  // with the token before, 4 or 8 columns

  size_t length() const;  // 0: none now
  void note_alone(double ms);
  void note_drafted(size_t n_drafted, size_t n_accepted, double ms);

 private:
  double alone_ms_ = 0;  // a token without drafts, averaged over the last few
  int n_alone_ = 0;
  double saved_ms_ = 0, total_ms_ = 0;
  int n_all_right_ = 0;  // drafts in a row
  size_t length_ = kShort;
};

}  // namespace curdkv
