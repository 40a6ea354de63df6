#include "escapes.h"

#include <charconv>

namespace curdkv::app {

std::string unescaped(std::string_view text) {
  constexpr std::string_view kFrom = "nrt'\"\\", kTo = "\n\r\t'\"\\";
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      out += text[i];
      continue;
    }
    const char next = text[i + 1];
    unsigned char byte = 0;
    if (const size_t at = kFrom.find(next); at != std::string_view::npos) {
      out += kTo[at];
      ++i;
    } else if (next == 'x' && i + 4 <= text.size() &&
               std::from_chars(&text[i + 2], &text[i + 2] + 2, byte, 16).ptr == &text[i + 2] + 2) {
      out += static_cast<char>(byte);
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

}  // namespace curdkv::app
