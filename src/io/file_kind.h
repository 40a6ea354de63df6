// What a file is that is no text, by its content and never by its name, and how text is made of it.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace curdkv {

// "is a PDF file: make text of it first (pdftotext FILE)"; nothing for what may be text.
std::optional<std::string> what_is(std::string_view bytes);

// Formats of documents that text can be made of (io/convert.h). HTML is one only where nothing but a comment
// or an XML declaration stands before its doctype or <html>: a text that holds tags is a text.
enum class Format { pdf, docx, odt, epub, rtf, html };
std::optional<Format> format_of(std::string_view bytes);

}  // namespace curdkv
