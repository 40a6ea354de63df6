// Texts that are built in, written for this project: what RULER's prompts are made of when no files are
// named.
#pragma once

#include <string_view>

namespace curdkv::eval {

extern const std::string_view kBuiltinAdjectives, kBuiltinNouns;  // a word a line
extern const std::string_view kBuiltinHaystack;                   // plain text, about 3,000 words

}  // namespace curdkv::eval
