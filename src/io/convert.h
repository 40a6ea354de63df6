// Text made of documents by the tools that are best at it: PDF by poppler's pdftotext; DOCX, ODT, EPUB, RTF
// and HTML by pandoc, in its sandbox.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "curdkv/result.h"
#include "io/file_kind.h"
#include "io/run_tool.h"

namespace curdkv {

struct Converted {
  std::string text;  // UTF-8; malformed bytes of the tool's are U+FFFD
  std::string tool;
  std::string warning;        // the first line of what the tool said, or ""
  int64_t n_pages = 0;        // of a PDF file
  int64_t n_blank_pages = 0;  // those that hold no text
};

// `name` is the document's, for errors: unsupported if the tool is not installed, saying what to install;
// corrupt if it fails, with what it says; bad_input if there is no text in the document; as of run_tool().
Result<Converted> convert(std::string_view bytes, Format format, const std::string& name,
                          const ToolSettings& settings);

}  // namespace curdkv
