// Text that others wrote (a model's answer, a document, a file's name) on the way to a terminal: what would
// act on the terminal is shown instead.
#pragma once

#include <string>
#include <string_view>

namespace curdkv::app {

// Control characters, C1 controls, what reorders text, and malformed bytes become visible: \x1b, \u009b. Line
// ends and tabs stay; so does everything else. \u as JSON has it, so that JSON stays JSON.
std::string printable(std::string_view text);
// The same for what must not end its line: a name, a value in a table.
std::string printable_line(std::string_view text);

}  // namespace curdkv::app
