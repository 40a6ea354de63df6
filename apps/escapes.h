// Escapes in texts from the command line, for those who ask for them (-e), as llama.cpp reads them.
#pragma once

#include <string>
#include <string_view>

namespace curdkv::app {

// \n, \r, \t, \', \", \\ and \x with two digits become what they stand for; anything else stays.
std::string unescaped(std::string_view text);

}  // namespace curdkv::app
