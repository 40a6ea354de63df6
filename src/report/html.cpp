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
  return format("%.*f", digits, value);
}

}  // namespace curdkv::report
