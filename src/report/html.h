// Pieces of HTML and SVG.
#pragma once

#include <string>
#include <string_view>

namespace curdkv::report {

std::string escaped(std::string_view text);  // for text and attribute values
// The name of a press in a table's head: it may break after its colons.
std::string breakable(std::string_view press);
std::string number(double value, int digits);

}  // namespace curdkv::report
