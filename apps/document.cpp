#include "document.h"

#include <unistd.h>

#include "base/try.h"
#include "base/utf8.h"
#include "escapes.h"
#include "io/input_file.h"
#include "sha256.h"

namespace curdkv::app {
namespace {

Result<std::string> read_document(const std::string& path, std::vector<ContextDocument>* parts) {
  const std::string name = path == "-" ? "standard input" : path;
  CURDKV_TRY(std::string bytes, path == "-" ? read_descriptor(STDIN_FILENO, name, kMostDocumentBytes)
                                            : read_file(path, kMostDocumentBytes));
  if (bytes.empty()) return Error{ErrorCode::bad_input, name + ": is empty"};
  if (parts != nullptr) parts->push_back({name, std::ssize(bytes), sha256_of(bytes)});
  CURDKV_TRY(std::string text, as_text(std::move(bytes), name));
  if (const size_t at = find_invalid_utf8(text); at != std::string_view::npos) {
    return Error{ErrorCode::corrupt,
                 name + ": is not UTF-8 text: byte " + std::to_string(at) +
                     " is malformed; convert it first (iconv -f LATIN1 -t UTF-8 FILE, or from what it is)"};
  }
  return text;
}

}  // namespace

void DocumentOptions::add_to(CLI::App& app) {
  app.add_option_function<std::string>(
         "-f,--file",
         [this](const std::string& path) {
           parts_.push_back({true, path});
         },
         "document to read, UTF-8 text; - is standard input; may be given again")
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
      CURDKV_TRY(text, read_document(part.text, parts));
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
