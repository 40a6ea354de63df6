#include "document.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "base/utf8.h"
#include "escapes.h"

namespace curdkv::app {
namespace {

Result<std::string> read_file(const std::string& path) {
  const auto fail = [&](const char* why) {
    return Error{ErrorCode::bad_input, (path == "-" ? "standard input" : path) + ": " + why};
  };
  std::unique_ptr<FILE, int (*)(FILE*)> file(path == "-" ? stdin : std::fopen(path.c_str(), "rb"),
                                             [](FILE* f) { return f == stdin ? 0 : std::fclose(f); });
  if (!file) return fail(std::strerror(errno));
  std::string text;
  char buffer[1 << 16];
  size_t n = 0;
  while ((n = std::fread(buffer, 1, sizeof buffer, file.get())) > 0) text.append(buffer, n);
  if (std::ferror(file.get())) return fail(std::strerror(errno));
  if (text.empty()) return fail("is empty");
  if (text.find('\0') != std::string::npos) return fail("is a binary file, not text");
  if (const size_t at = find_invalid_utf8(text); at != std::string::npos) {
    return fail(("is not UTF-8 text: byte " + std::to_string(at) + " is malformed").c_str());
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

void DocumentOptions::unescape() {
  for (Part& part : parts_) {
    if (!part.is_file) part.text = unescaped(part.text);
  }
}

Result<std::string> DocumentOptions::read() const {
  if (parts_.empty()) return Error{ErrorCode::bad_argument, "no document: give one with -f FILE or -p TEXT"};
  std::string whole;
  for (const Part& part : parts_) {
    std::string text = part.text;
    if (part.is_file) {
      auto read = read_file(part.text);
      if (!read) return read.error();
      text = std::move(*read);
    } else if (const size_t at = find_invalid_utf8(text); at != std::string::npos) {
      return Error{ErrorCode::bad_input, "-p: not UTF-8 text: byte " + std::to_string(at) + " is malformed"};
    }
    if (!whole.empty() && whole.back() != '\n') whole += '\n';
    whole += text;
  }
  if (whole.find_first_not_of(" \t\r\n") == std::string::npos) {
    return Error{ErrorCode::bad_input, "the document is empty: it holds nothing but white space"};
  }
  return whole;
}

}  // namespace curdkv::app
