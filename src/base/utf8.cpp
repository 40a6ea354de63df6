#include "base/utf8.h"

namespace curdkv {

size_t utf8_sequence(std::string_view s, bool& incomplete) {
  incomplete = false;
  if (s.empty()) return 0;
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(s[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  const size_t n = lead >= 0xC2 && lead <= 0xDF   ? 2
                   : lead >= 0xE0 && lead <= 0xEF ? 3
                   : lead >= 0xF0 && lead <= 0xF4 ? 4
                                                  : 0;
  if (n == 0) return 0;
  for (size_t i = 1; i < n; ++i) {
    if (i == s.size()) {
      incomplete = true;
      return 0;
    }
    // The second byte's range excludes overlong forms, surrogates and what lies beyond U+10FFFF.
    unsigned char low = 0x80, high = 0xBF;
    if (i == 1 && lead == 0xE0) low = 0xA0;
    if (i == 1 && lead == 0xED) high = 0x9F;
    if (i == 1 && lead == 0xF0) low = 0x90;
    if (i == 1 && lead == 0xF4) high = 0x8F;
    if (byte(i) < low || byte(i) > high) return 0;
  }
  return n;
}

size_t find_invalid_utf8(std::string_view s) {
  bool incomplete = false;
  for (size_t i = 0; i < s.size();) {
    const size_t n = utf8_sequence(s.substr(i), incomplete);
    if (n == 0) return i;
    i += n;
  }
  return std::string_view::npos;
}

std::string Utf8Stream::push(std::string_view bytes) {
  pending_ += bytes;
  std::string out;
  size_t i = 0;
  bool incomplete = false;
  while (i < pending_.size()) {
    const size_t n = utf8_sequence(std::string_view(pending_).substr(i), incomplete);
    if (incomplete) break;
    if (n == 0) {
      out += "\xEF\xBF\xBD";
      ++i;
    } else {
      out.append(pending_, i, n);
      i += n;
    }
  }
  pending_.erase(0, i);
  return out;
}

std::string Utf8Stream::flush() {
  const bool any = !pending_.empty();
  pending_.clear();
  return any ? "\xEF\xBF\xBD" : "";
}

}  // namespace curdkv
