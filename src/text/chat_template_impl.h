// A parsed chat template of llama.cpp's, and what has to be known of it.
#pragma once

#include <chat.h>

#include <span>
#include <string>
#include <vector>

#include "curdkv/text.h"

namespace curdkv {

struct ChatTemplate::Impl {
  Tokenizer tokenizer;  // the engine's templates refer to its model
  std::string whose;    // for messages
  std::chrono::system_clock::time_point now;
  bool jinja = true;
  bool thinking = false;
  bool tools = false, parallel_tool_calls = false;
  common_chat_templates_ptr templates = nullptr;
  UserTurn own_turn = {};  // without a system turn of the caller's

  Error fail(const std::string& why, ErrorCode code = ErrorCode::unsupported) const;
  Result<void> load(const std::string& source);
  // What llama-server's settings make of the template by default. Their messages, tools and the like are the
  // caller's.
  common_chat_templates_inputs inputs() const;
  // Errors: bad_input with the template's own words, or if it would not end.
  Result<common_chat_params> apply(const common_chat_templates_inputs& inputs) const;
  Result<std::string> render(std::span<const Message> messages, bool add_generation_prompt) const;
  Result<std::vector<std::string>> around(std::span<const Message> messages, bool add_generation_prompt,
                                          bool answers_too) const;
  Result<UserTurn> user_turn(const std::string& system) const;
  // What a user's text is once the template has taken blanks off its ends.
  std::string as_shown(const std::string& text) const;
};

// Stands for the i-th text that a template is not shown; one that quotes, indents or changes case would not
// leave it alone.
std::string placeholder(size_t i);

// "Error: ..." of the template engine, which shows the source around an error over several lines: the last.
std::string in_one_line(std::string message);

}  // namespace curdkv
