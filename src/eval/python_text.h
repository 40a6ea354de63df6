// Strings as Python's str sees them, for metrics that were written in Python: Unicode white space, case and
// digits over UTF-8.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace curdkv::eval {

using CodePoints = std::u32string;

CodePoints decode_utf8(std::string_view text);  // malformed bytes become U+FFFD
std::string encode_utf8(const CodePoints& text);

bool is_space(char32_t c);  // str.isspace()
bool is_digit(char32_t c);  // re's \d
bool is_word(char32_t c);   // re's \w

CodePoints lower(const CodePoints& text);
CodePoints strip(const CodePoints& text);
std::vector<CodePoints> split(const CodePoints& text);               // at runs of white space
std::vector<CodePoints> split(const CodePoints& text, char32_t at);  // empty pieces included

}  // namespace curdkv::eval
