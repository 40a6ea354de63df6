#include "report/html.h"

#include "base/format.h"

namespace curdkv::report {

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string breakable(std::string_view press) {
  std::string out;
  for (const char c : escaped(press)) {
    if (c == ':') out += "<wbr>";
    out += c;
  }
  return out;
}

std::string number(double value, int digits) {
  const std::string text = format("%.*f", digits, value);
  const bool minus_zero = text[0] == '-' && text.find_first_of("123456789") == std::string::npos;
  return minus_zero ? text.substr(1) : text;
}

}  // namespace curdkv::report
