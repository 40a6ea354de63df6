// What a client of OpenAI's API asks of a chat template: messages, tools and a form of the answer, as JSON.
// What comes back is the prompt, what the answer is held to while it is generated, and what reads it
// afterwards.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "curdkv/text.h"
#include "text/answer_parser.h"

namespace curdkv {

// What of the last message, the assistant's, an answer goes on from.
enum class Continuation { none, either, content, reasoning };

struct ChatRequest {
  std::string messages;    // a JSON array
  std::string tools = {};  // likewise; "": none
  std::string tool_choice = "auto";
  std::optional<bool> parallel_tool_calls = {};                // unset: as the template can
  std::string json_schema = {};                                // of the answer; "": none
  std::string grammar = {};                                    // GBNF, likewise
  std::map<std::string, std::string> template_arguments = {};  // further ones of the template's, as JSON
  std::optional<bool> thinking = {};                           // unset: where the template knows of it
  bool add_generation_prompt = true;
  Continuation continuation = Continuation::none;  // otherwise add_generation_prompt does not count
  std::chrono::system_clock::time_point now =
      std::chrono::system_clock::now();  // as ChatTemplateOptions has it
};

struct RenderedChat {
  std::vector<PromptPart> parts;
  Constraint constraint;
  std::vector<std::string> stops;  // texts that end the answer
  std::vector<Token> shown;        // control tokens that are part of an answer's text
  AnswerParser parser;
  std::string text() const;  // of all parts
};

// The template's text as llama-server has it. Messages' text that names a special token is not shown to the
// template, so that it stays plain text: see ChatTemplate::parts(). Errors: bad_input for what is no such
// JSON, naming what is missing; with the template's own words; or if it would not end; as of
// ChatTemplate::parts where a message names a special token.
Result<RenderedChat> render_request(const ChatTemplate& chat_template, const ChatRequest& request);

// How many of the text's first bytes the first n messages decide, whatever follows them. Errors: as above.
Result<size_t> extent_of_messages(const ChatTemplate& chat_template, const ChatRequest& request, size_t n,
                                  const std::string& text);

// A grammar (GBNF) for JSON of a schema. Errors: bad_input with the reason.
Result<std::string> grammar_of_schema(const std::string& json_schema);

}  // namespace curdkv
