// What a file is that is no text, by its first bytes, and how text is made of it.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace curdkv {

// "is a PDF file: make text of it first (pdftotext FILE)"; nothing for what may be text.
std::optional<std::string> what_is(std::string_view bytes);

}  // namespace curdkv
