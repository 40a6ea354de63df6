// Reads answers the way a chat template makes the model write them: thinking, content and calls of tools.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "curdkv/result.h"

namespace curdkv {

struct ToolCall {
  std::string id, name, arguments;  // arguments: JSON
};

struct ParsedAnswer {
  std::string content, reasoning;
  std::vector<ToolCall> tool_calls;
};

// What an answer has more of than before. tool_call: its index, or -1; its id and name come once, its
// arguments bit by bit.
struct AnswerDelta {
  std::string content, reasoning;
  int64_t tool_call = -1;
  ToolCall call;
};

// One answer, as it grows. Copies are made before the first text. One thread at a time may use one.
class AnswerParser {
 public:
  AnswerParser();  // everything is content

  // The answer so far, from its beginning. whole: nothing comes after it. make_id: names a call of a tool
  // that the model has not named. Errors: bad_input for a text that is not of the template's form.
  Result<std::vector<AnswerDelta>> read(const std::string& text, bool whole,
                                        const std::function<std::string()>& make_id);
  // What was written of it, without what it goes on from.
  ParsedAnswer answer() const;

  // Before the first text of an answer that goes on from one in the prompt. Errors: as of read().
  Result<void> begin();

  struct Syntax;
  explicit AnswerParser(std::shared_ptr<const Syntax> syntax);

 private:
  std::shared_ptr<const Syntax> syntax_;
  ParsedAnswer all_, before_;  // before_: what the prompt holds of the answer
  std::vector<std::string> ids_;
};

}  // namespace curdkv
