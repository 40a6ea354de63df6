// Lines a user types: edited, with those before to go back to, where there is a terminal; elsewhere as they
// come.
#pragma once

#include <memory>
#include <string>

namespace curdkv::app {

class LineInput {
 public:
  enum class Kind { line, end, interrupt };  // interrupt: Ctrl-C, on a terminal
  struct Line {
    Kind kind;
    std::string text = {};  // without its end; what had been typed, if it was interrupted
    bool too_long = false;  // more than kMostBytes, and the text is cut
  };
  static constexpr size_t kMostBytes = size_t{1} << 20;

  LineInput();  // from standard input
  ~LineInput();
  bool edits() const;  // whether it is a terminal's, both ways
  Line next(const char* prompt);

 private:
  struct Editor;
  std::unique_ptr<Editor> editor_;  // null where there is no terminal
};

}  // namespace curdkv::app
