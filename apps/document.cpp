#include "document.h"

#include <unistd.h>

#include <cstdlib>

#include "base/try.h"
#include "base/utf8.h"
#include "command.h"
#include "escapes.h"
#include "io/convert.h"
#include "io/input_file.h"
#include "sha256.h"
#include "terminal.h"

namespace curdkv::app {
namespace {

// What was done: "report.pdf: 12 pages converted by pdftotext, 2 of them without text".
std::string said_of(const Converted& c, const std::string& name) {
  std::string out = name + ": ";
  if (c.n_pages > 0) out += std::to_string(c.n_pages) + (c.n_pages == 1 ? " page " : " pages ");
  out += "converted by " + c.tool;
  if (c.n_blank_pages > 0) out += ", " + std::to_string(c.n_blank_pages) + " of them without text";
  if (!c.warning.empty()) out += "; it says: " + c.warning;
  return out;
}

Result<std::string> converted(const std::string& bytes, Format format, const std::string& name) {
  ToolSettings settings;
  const char* path = std::getenv("PATH");
  settings.path = path != nullptr ? path : "";
  settings.environment = environ;
  settings.stop = &interrupted();
  const InterruptScope scope;
  CURDKV_TRY(Converted c, convert(bytes, format, name, settings));
  note(said_of(c, name));
  return std::move(c.text);
}

Result<std::string> utf8(std::string text, const std::string& name) {
  const size_t at = find_invalid_utf8(text);
  if (at == std::string::npos) return text;
  return Error{ErrorCode::corrupt,
               name + ": is not UTF-8 text: byte " + std::to_string(at) +
                   " is malformed; convert it first (iconv -f LATIN1 -t UTF-8 FILE, or from what it is)"};
}

Result<std::string> read_document(const std::string& path, bool as_it_is,
                                  std::vector<ContextDocument>* parts) {
  const std::string name = path == "-" ? "standard input" : path;
  CURDKV_TRY(std::string bytes, path == "-" ? read_descriptor(STDIN_FILENO, name, kMostDocumentBytes)
                                            : read_file(path, kMostDocumentBytes));
  if (bytes.empty()) return Error{ErrorCode::bad_input, name + ": is empty"};
  if (parts != nullptr) parts->push_back({name, std::ssize(bytes), sha256_of(bytes)});
  const auto format = as_it_is ? std::nullopt : format_of(bytes);
  if (format && format != Format::html) return converted(bytes, *format, name);
  CURDKV_TRY(std::string text, as_text(std::move(bytes), name));
  CURDKV_TRY(text, utf8(std::move(text), name));
  if (!format) return text;
  auto page = converted(text, *format, name);
  if (page || page.error().code == ErrorCode::cancelled) return page;
  return Error{page.error().code, page.error().message + "; --as text takes it as it is"};
}

}  // namespace

void DocumentOptions::add_to(CLI::App& app) {
  app.add_option_function<std::string>(
         "-f,--file",
         [this](const std::string& path) {
           parts_.push_back({true, path});
         },
         "document to read: UTF-8 text; PDF by way of pdftotext; DOCX, ODT, EPUB, RTF or HTML by way of "
         "pandoc; - is standard input; may be given again")
      ->type_name("FILE")
      ->trigger_on_parse();
  app.add_option_function<std::string>(
         "-p,--prompt",
         [this](const std::string& text) {
           parts_.push_back({false, text});
         },
         "text to use as (part of) the document")
      ->type_name("TEXT")
      ->trigger_on_parse();
  app.add_option("--as", as_, "text: take every FILE as the text it is, HTML too; auto: by its content")
      ->check(CLI::IsMember({"auto", "text"}))
      ->capture_default_str();
}

DocumentOptions DocumentOptions::of_file(const std::string& path) {
  DocumentOptions o;
  o.parts_.push_back({true, path});
  return o;
}

void DocumentOptions::unescape() {
  for (Part& part : parts_) {
    if (!part.is_file) part.text = unescaped(part.text);
  }
}

Result<std::string> DocumentOptions::read(std::vector<ContextDocument>* parts) const {
  if (parts_.empty()) return Error{ErrorCode::bad_argument, "no document: give one with -f FILE or -p TEXT"};
  std::string whole;
  for (const Part& part : parts_) {
    std::string text = part.text;
    if (part.is_file) {
      CURDKV_TRY(text, read_document(part.text, as_ == "text", parts));
    } else if (const size_t at = find_invalid_utf8(text); at != std::string::npos) {
      return Error{ErrorCode::corrupt, "-p: not UTF-8 text: byte " + std::to_string(at) + " is malformed"};
    } else if (parts != nullptr) {
      parts->push_back({"-p", std::ssize(text), sha256_of(text)});
    }
    if (!whole.empty() && whole.back() != '\n') whole += '\n';
    whole += text;
  }
  if (whole.find_first_not_of(" \t\r\n") == std::string::npos) {
    return Error{ErrorCode::bad_input, "the document is empty: it holds nothing but white space"};
  }
  return whole;
}

std::vector<std::string> DocumentOptions::files() const {
  std::vector<std::string> out;
  for (const Part& part : parts_) {
    if (part.is_file) out.push_back(part.text == "-" ? "/dev/stdin" : part.text);
  }
  return out;
}

}  // namespace curdkv::app
