// The document a user names with -f and -p.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "curdkv/context.h"

namespace curdkv::app {

// (-f FILE | -p TEXT)..., joined by line breaks in the order given; FILE may be - for standard input. Text is
// taken as it is, and made of PDF, DOCX, ODT, EPUB, RTF and HTML files, which is said on stderr; --as text
// takes HTML, too, as it is.
struct DocumentOptions {
  void add_to(CLI::App& app);
  static DocumentOptions of_file(const std::string& path);

  // parts: gets each part's name, size and SHA-256, as they were before anything was done to them. Errors: as
  // of read_file(), as_text() and convert(); corrupt for text that is not UTF-8; bad_input if there is no
  // text; bad_argument if none is given.
  Result<std::string> read(std::vector<ContextDocument>* parts = nullptr) const;
  bool empty() const { return parts_.empty(); }
  std::vector<std::string> files() const;  // those named with -f
  void unescape();                         // what -p gave; see unescaped()

 private:
  struct Part {
    bool is_file;
    std::string text;  // or path
  };
  std::vector<Part> parts_;
  std::string as_ = "auto";
};

}  // namespace curdkv::app
