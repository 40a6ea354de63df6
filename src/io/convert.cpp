#include "io/convert.h"

#include <algorithm>
#include <vector>

#include "base/try.h"
#include "base/utf8.h"

namespace curdkv {
namespace {

struct Way {
  const char* format;
  const char* tool;
  const char* package;  // Debian's
  std::vector<std::string> arguments;
};

Way by_pandoc(const char* format, const char* reader) {
  return {format,
          "pandoc",
          "pandoc",
          {"--sandbox", "-f", reader, "-t", "plain", "--wrap=none", "+RTS", "-M4G", "-RTS"}};
}

Way way_of(Format format) {
  switch (format) {
    case Format::docx:
      return by_pandoc("a Word file (.docx)", "docx");
    case Format::odt:
      return by_pandoc("an OpenDocument text (.odt)", "odt");
    case Format::epub:
      return by_pandoc("an EPUB book", "epub");
    case Format::rtf:
      return by_pandoc("an RTF file", "rtf");
    case Format::html:
      return by_pandoc("an HTML page", "html");
    case Format::pdf:
      break;
  }
  // Not -layout: it sets columns side by side, so that every line of a page in two columns is of two
  // sentences, and spends tokens on blanks. Tables come out by columns for that.
  return {"a PDF file", "pdftotext", "poppler-utils", {"-enc", "UTF-8", "-eol", "unix", "-", "-"}};
}

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n\f\v") == std::string_view::npos;
}

// Form feeds, one behind each page, become line ends where there is none.
void count_pages(Converted& c) {
  std::string text;
  size_t begin = 0;
  for (size_t end = 0; (end = c.text.find('\f', begin)) != std::string::npos; begin = end + 1) {
    const auto page = std::string_view(c.text).substr(begin, end - begin);
    ++c.n_pages;
    c.n_blank_pages += is_blank(page);
    text += page;
    if (!page.empty() && page.back() != '\n') text += '\n';
  }
  c.text = text + c.text.substr(begin);
}

}  // namespace

Result<Converted> convert(std::string_view bytes, Format format, const std::string& name,
                          const ToolSettings& settings) {
  const Way way = way_of(format);
  const std::string is = name + ": is " + way.format + ", ";
  const std::string file = find_tool(way.tool, settings.path);
  if (file.empty()) {
    return Error{ErrorCode::unsupported, is + "and " + way.tool +
                                             ", which makes text of it, is not installed (Debian's package " +
                                             way.package + ")"};
  }
  auto output = run_tool(file, way.arguments, bytes, settings);
  if (!output) return Error{output.error().code, is + "and " + output.error().message};
  if (!output->failure.empty()) {
    return Error{ErrorCode::corrupt, is + "and " + way.tool + " makes no text of it: " +
                                         (output->said.empty() ? output->failure : output->said)};
  }
  Converted out;
  Utf8Stream stream;
  out.text = stream.push(output->text) + stream.flush();
  out.tool = way.tool;
  out.warning = output->said;
  if (format == Format::pdf) count_pages(out);
  if (is_blank(out.text)) {
    return Error{
        ErrorCode::bad_input,
        is + (format == Format::pdf
                  ? "and has no text layer, as scans have none: make one first (ocrmypdf FILE OUT.pdf)"
                  : "and holds no text")};
  }
  return out;
}

}  // namespace curdkv
