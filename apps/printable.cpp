#include "printable.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>

#include "base/utf8.h"

namespace curdkv::app {
namespace {

uint32_t code_point(std::string_view sequence) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(sequence[i]); };
  if (sequence.size() == 1) return byte(0);
  uint32_t code = byte(0) & (0xffu >> (sequence.size() + 1));
  for (size_t i = 1; i < sequence.size(); ++i) code = code << 6 | (byte(i) & 0x3fu);
  return code;
}

bool acts_on_terminals(uint32_t code) {
  const bool control = code < 0x20 || (code >= 0x7f && code < 0xa0);
  const bool reorders = code == 0x61c || code == 0x200e || code == 0x200f ||
                        (code >= 0x202a && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
  const bool ends_lines = code == 0x2028 || code == 0x2029;  // to some terminals
  return control || reorders || ends_lines;
}

std::string shown(std::string_view text, bool lines) {
  std::string out;
  char escape[16];
  while (!text.empty()) {
    bool incomplete = false;
    const size_t n = utf8_sequence(text, incomplete);
    const std::string_view sequence = text.substr(0, std::max<size_t>(n, 1));
    const bool line_end = text.starts_with('\n') || text.starts_with("\r\n");
    const uint32_t code = n == 0 ? static_cast<unsigned char>(text[0]) : code_point(sequence);
    if (lines && (line_end || code == '\t')) {
      out += sequence;
    } else if (n == 0 || code < 0x20) {
      std::snprintf(escape, sizeof escape, "\\x%02x", code);
      out += escape;
    } else if (acts_on_terminals(code)) {
      std::snprintf(escape, sizeof escape, "\\u%04x", code);
      out += escape;
    } else {
      out += sequence;
    }
    text.remove_prefix(sequence.size());
  }
  return out;
}

}  // namespace

std::string printable(std::string_view text) {
  return shown(text, true);
}

std::string printable_line(std::string_view text) {
  return shown(text, false);
}

}  // namespace curdkv::app
