// llama.cpp's common library reads OpenAI's messages and tools, and says what the template makes of them.
#include "text/chat_request.h"

#include <chat.h>
#include <json-schema-to-grammar.h>

#include <algorithm>

#include "base/guard.h"
#include "base/try.h"
#include "text/answer_syntax.h"
#include "text/chat_template_impl.h"
#include "text/tokenizer_impl.h"

namespace curdkv {
namespace {

common_json parsed(const std::string& text) {
  return common_json::parse(text);
}

common_chat_continuation as_llama(Continuation c) {
  switch (c) {
    case Continuation::none:
      return COMMON_CHAT_CONTINUATION_NONE;
    case Continuation::either:
      return COMMON_CHAT_CONTINUATION_AUTO;
    case Continuation::content:
      return COMMON_CHAT_CONTINUATION_CONTENT;
    case Continuation::reasoning:
      return COMMON_CHAT_CONTINUATION_REASONING;
  }
  return COMMON_CHAT_CONTINUATION_NONE;
}

Result<void> check_continued(const std::vector<common_chat_msg>& messages) {
  if (messages.empty() || messages.back().role != "assistant")
    return Error{ErrorCode::bad_input, "only the assistant's message, as the last, can be gone on from"};
  if (messages.size() > 1 && messages[messages.size() - 2].role == "assistant")
    return Error{ErrorCode::bad_input, "two messages of the assistant's at the end cannot be gone on from"};
  if (!messages.back().tool_calls.empty())
    return Error{ErrorCode::bad_input, "an assistant's message that calls tools cannot be gone on from"};
  return {};
}

Result<common_chat_templates_inputs> read(const ChatTemplate::Impl& impl, const ChatRequest& r) {
  common_chat_templates_inputs in = impl.inputs();
  const auto done = guarded(
      [&] {
        in.messages = common_chat_msgs_parse_oaicompat(parsed(r.messages));
        if (!r.tools.empty()) in.tools = common_chat_tools_parse_oaicompat(parsed(r.tools));
        in.tool_choice = common_chat_tool_choice_parse_oaicompat(r.tool_choice);
      },
      ErrorCode::bad_input);
  CURDKV_CHECK(done);
  if (!in.tools.empty() && in.tool_choice != COMMON_CHAT_TOOL_CHOICE_NONE && !impl.tools)
    return Error{ErrorCode::bad_input,
                 "the model's chat template knows no tools; another one can be given (--chat-template-file)"};
  in.json_schema = r.json_schema;
  in.grammar = r.grammar;
  in.parallel_tool_calls = r.parallel_tool_calls.value_or(in.parallel_tool_calls);
  in.enable_thinking = r.thinking.value_or(in.enable_thinking);
  in.add_generation_prompt = r.add_generation_prompt && r.continuation == Continuation::none;
  in.continue_final_message = as_llama(r.continuation);
  if (r.continuation != Continuation::none) CURDKV_CHECK(check_continued(in.messages));
  in.now = r.now;
  for (const auto& [name, value] : r.template_arguments) in.chat_template_kwargs[name] = value;
  return in;
}

// Texts of messages that the template is not shown, and the placeholders it is shown instead.
class Hidden {
 public:
  explicit Hidden(const Tokenizer::Impl& tokenizer) : tokenizer_(tokenizer) {}

  // What an answer goes on from is put into the prompt as it is; templates may trim other messages.
  void hide(std::vector<common_chat_msg>& messages, const ChatTemplate::Impl& impl, bool last_as_it_is) {
    for (common_chat_msg& m : messages) {
      if (m.role == "system" || m.role == "developer") continue;
      const bool as_it_is = last_as_it_is && &m == &messages.back();
      const auto shown = [&](const std::string& text) { return as_it_is ? text : impl.as_shown(text); };
      hide(m.content, shown);
      for (auto& part : m.content_parts) hide(part.text, shown);
    }
  }

  Result<std::vector<PromptPart>> parts(const std::string& text) const {
    std::vector<PromptPart> out;
    size_t from = 0;
    for (size_t i = 0; i < texts_.size(); ++i) {
      const std::string shown = placeholder(i);
      const size_t at = text.find(shown, from);
      if (at == std::string::npos || text.find(shown, at + 1) != std::string::npos) {
        return Error{
            ErrorCode::bad_input,
            "a message names a special token of the model's vocabulary, and the chat template does not put "
            "that message into one place as it is"};
      }
      out.push_back({text.substr(from, at - from)});
      out.push_back({texts_[i], true});
      from = at + shown.size();
    }
    out.push_back({text.substr(from)});
    return out;
  }
  // A piece of the template's text with what was hidden.
  std::string whole(std::string text) const {
    for (size_t i = 0; i < texts_.size(); ++i) {
      const size_t at = text.find(placeholder(i));
      if (at != std::string::npos) text.replace(at, placeholder(i).size(), texts_[i]);
    }
    return text;
  }

 private:
  template <typename Shown>
  void hide(std::string& text, const Shown& shown) {
    if (tokenizer_.special->cuts(text, 0, text.size()).empty()) return;
    texts_.push_back(shown(text));
    text = placeholder(texts_.size() - 1);
  }

  const Tokenizer::Impl& tokenizer_;
  std::vector<std::string> texts_;
};

std::optional<Token> only_token(const Tokenizer& tokenizer, const std::string& text) {
  const auto tokens = tokenizer.tokenize(text, true, false);
  if (!tokens || tokens->size() != 1) return std::nullopt;
  return tokens->front();
}

std::string escaped_for_regex(const std::string& word) {
  std::string out;
  for (const char c : word) {
    if (std::string_view(".^$|()*+?[]{}\\").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

std::string anchored(const std::string& pattern) {
  if (pattern.empty()) return "^$";
  return (pattern.front() == '^' ? "" : "^") + pattern + (pattern.back() == '$' ? "" : "$");
}

Result<Constraint> constraint_of(const common_chat_params& params, const ChatRequest& request,
                                 const Tokenizer& tokenizer) {
  // Not every form of answers hands on the request's own grammar.
  Constraint out = {.grammar = params.grammar.empty() ? request.grammar : params.grammar,
                    .lazy = params.grammar_lazy};
  for (const common_grammar_trigger& t : params.grammar_triggers) {
    switch (t.type) {
      case COMMON_GRAMMAR_TRIGGER_TYPE_TOKEN:
        out.trigger_tokens.push_back(t.token);
        break;
      case COMMON_GRAMMAR_TRIGGER_TYPE_WORD:
        if (const auto token = only_token(tokenizer, t.value)) {
          out.trigger_tokens.push_back(*token);
        } else {
          out.trigger_patterns.push_back(escaped_for_regex(t.value));
        }
        break;
      case COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN:
        out.trigger_patterns.push_back(t.value);
        break;
      case COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN_FULL:
        out.trigger_patterns.push_back(anchored(t.value));
        break;
    }
  }
  // The template has written the beginning of an answer of its own form already.
  if (!out.grammar.empty() && !out.lazy && request.grammar.empty()) {
    CURDKV_TRY(out.prefill, tokenizer.tokenize(params.generation_prompt, true, false));
  }
  return out;
}

}  // namespace

std::string RenderedChat::text() const {
  std::string out;
  for (const PromptPart& part : parts) out += part.text;
  return out;
}

Result<RenderedChat> render_request(const ChatTemplate& chat_template, const ChatRequest& request) {
  return guarded([&]() -> Result<RenderedChat> {
    const ChatTemplate::Impl& impl = chat_template.impl();
    CURDKV_TRY(common_chat_templates_inputs in, read(impl, request));
    const bool continues = request.continuation != Continuation::none;
    Hidden hidden(impl.tokenizer.impl());
    hidden.hide(in.messages, impl, continues);
    CURDKV_TRY(common_chat_params params, impl.apply(in));
    RenderedChat out;
    CURDKV_TRY(out.parts, hidden.parts(params.prompt));
    params.generation_prompt = hidden.whole(std::move(params.generation_prompt));
    CURDKV_TRY(out.constraint, constraint_of(params, request, impl.tokenizer));
    out.stops = params.additional_stops;
    for (const std::string& name : params.preserved_tokens) {
      if (const auto token = only_token(impl.tokenizer, name)) out.shown.push_back(*token);
    }
    auto syntax = std::make_shared<AnswerParser::Syntax>();
    syntax->params = common_chat_parser_params(params);
    syntax->params.reasoning_format = in.reasoning_format;
    syntax->params.parse_tool_calls = !in.tools.empty() && in.tool_choice != COMMON_CHAT_TOOL_CHOICE_NONE;
    if (!params.parser.empty()) syntax->params.parser.load(params.parser);
    out.parser = AnswerParser(std::move(syntax));
    if (continues) CURDKV_CHECK(out.parser.begin());
    return out;
  });
}

Result<size_t> extent_of_messages(const ChatTemplate& chat_template, const ChatRequest& request, size_t n,
                                  const std::string& text) {
  return guarded([&]() -> Result<size_t> {
    const ChatTemplate::Impl& impl = chat_template.impl();
    CURDKV_TRY(common_chat_templates_inputs in, read(impl, request));
    in.messages.resize(std::min(n, in.messages.size()));
    in.add_generation_prompt = false;
    in.continue_final_message = COMMON_CHAT_CONTINUATION_NONE;
    Hidden hidden(impl.tokenizer.impl());
    hidden.hide(in.messages, impl, false);
    CURDKV_TRY(const common_chat_params params, impl.apply(in));
    RenderedChat first;
    CURDKV_TRY(first.parts, hidden.parts(params.prompt));
    const std::string begun = first.text();
    return static_cast<size_t>(std::mismatch(begun.begin(), begun.end(), text.begin(), text.end()).first -
                               begun.begin());
  });
}

Result<std::string> grammar_of_schema(const std::string& json_schema) {
  return guarded([&]() -> Result<std::string> { return json_schema_to_grammar(parsed(json_schema)); },
                 ErrorCode::bad_input);
}

}  // namespace curdkv
