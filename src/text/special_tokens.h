// The tokens of a vocabulary that stand for something else than their text: control, user-defined, unknown
// and byte tokens. A template's text names them; what users write never does.
#pragma once

#include <llama.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "curdkv/token.h"

namespace curdkv {

// Bytes of the UTF-8 character that begins with this one.
size_t utf8_length(char lead);

class SpecialTokens {
 public:
  explicit SpecialTokens(const llama_vocab* vocab);

  // A template's text, cut at the tokens it names, as libllama cuts it: the longest names first, and white
  // space beside a token that swallows it is gone.
  struct Piece {
    Token token = -1;                              // or
    std::string text;                              // plain text
    bool strip_left = false, strip_right = false;  // a token's appetite for what stands left and right of it
  };
  std::vector<Piece> split(const std::string& text) const;

  // Where text has to be cut for none of these tokens to be found in it: one place inside every occurrence of
  // a name that reaches into [begin, end). Ascending.
  std::vector<size_t> cuts(std::string_view text, size_t begin, size_t end) const;

  // Whether the token must not come out of what users write.
  bool is_forbidden(Token token) const;

 private:
  struct Named {
    Token token;
    std::string text;
    bool in_templates;  // byte tokens are not: libllama takes "<0x0A>" for text there, too
    bool strip_left, strip_right;
  };
  std::vector<Named> named_;                              // longest first
  std::array<std::vector<uint32_t>, 256> by_first_byte_;  // into named_
  std::vector<bool> forbidden_;                           // by token
};

}  // namespace curdkv
