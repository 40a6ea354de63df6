// Conversations to text: the model's chat template, run by llama.cpp's Jinja engine as its server runs it.
// What users wrote is kept apart from what the template wrote around it, so that it can be tokenised without
// special tokens.
#pragma once

#include <chrono>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "curdkv/result.h"

namespace curdkv {

class Tokenizer;

struct Message {
  std::string role;  // "system", "user" or "assistant"
  std::string content;
};

struct PromptPart {
  std::string text;
  bool from_user = false;  // or from an answer; otherwise the template's and the system turn's
};

struct ChatTemplateOptions {
  std::string source = {};  // Jinja, or a name that llama.cpp knows ("chatml"); "": the model's own
  // The date some templates tell the model (Llama 3.1). One moment serves everything a template renders.
  std::chrono::system_clock::time_point now = std::chrono::system_clock::now();
};

// A single turn of the user's, cut where the user's text stands.
struct UserTurn {
  std::string before, after;                // the template's text
  std::string trimmed_left, trimmed_right;  // characters the template takes off the user's text at its ends
};

// Copies share the parsed template and the tokenizer's vocabulary. Immutable: any number of threads may use a
// template at once.
class ChatTemplate {
 public:
  // Errors: bad_argument for a source that is neither Jinja nor a name; corrupt for Jinja that is malformed;
  // unsupported if the model has no template, or the template does not put what users write, as they wrote
  // it, into one place; bad_input if it fails on a single user's turn.
  static Result<ChatTemplate> create(const Tokenizer& tokenizer, const ChatTemplateOptions& options);

  // The conversation so far and, with add_generation_prompt, the opening of the answer. A begin-of-sequence
  // token that tokenising puts in front is left out. Errors: bad_input with the template's own words, or if
  // it would not end.
  Result<std::string> render(std::span<const Message> messages, bool add_generation_prompt) const;

  // The same text in parts, of which answers' and users' are plain text. Where the template does something on
  // reading particular words of the user's (a switch such as "/think"), it is shown a placeholder instead of
  // them and the parts say less than render(). Errors: also unsupported if what users wrote is not found in
  // the text.
  Result<std::vector<PromptPart>> parts(std::span<const Message> messages, bool add_generation_prompt) const;

  // The user's first turn, behind a system turn if there is one. Errors: as above.
  Result<UserTurn> user_turn(const std::string& system) const;

  // Names that `source` may be.
  static std::vector<std::string> names();

  struct Impl;
  const Impl& impl() const { return *impl_; }

 private:
  explicit ChatTemplate(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<const Impl> impl_;
};

}  // namespace curdkv
