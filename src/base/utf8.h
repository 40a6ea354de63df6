// UTF-8, as far as streaming text and checking documents needs it.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace curdkv {

// Length of the well-formed sequence at the start of s; 0 if it is malformed; if it is a well-formed
// beginning that needs more bytes than there are, `incomplete` becomes true and the result is 0.
size_t utf8_sequence(std::string_view s, bool& incomplete);

// First byte that is not part of well-formed UTF-8, or npos.
size_t find_invalid_utf8(std::string_view s);

// Splits a byte stream into whole sequences; malformed bytes become U+FFFD.
class Utf8Stream {
 public:
  std::string push(std::string_view bytes);  // what became complete
  std::string flush();                       // what is left, replaced as malformed

 private:
  std::string pending_;
};

}  // namespace curdkv
