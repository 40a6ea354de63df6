// POST /v1/chat/completions, in OpenAI's form with llama-server's additions.
#include <algorithm>

#include "base/format.h"
#include "base/try.h"
#include "server/chat_reply.h"
#include "server/identity.h"
#include "server/prompt_plan.h"

namespace curdkv::server {
namespace {

constexpr const char* kRoles[] = {"system", "developer", "user", "assistant", "tool"};
constexpr size_t kMostMessages = 4096, kMostSchema = size_t{256} << 10;

// A message's text, of one string or of parts.
std::string text_of(const Json& message) {
  const auto content = message.find("content");
  if (content == message.end()) return "";
  if (content->is_string()) return content->get<std::string>();
  std::string out;
  for (const Json& part : *content) {
    if (part.is_object() && part.contains("text") && part["text"].is_string())
      out += part["text"].get<std::string>();
  }
  return out;
}

// What is wrong with the messages, or "".
std::string check_messages(const Json& messages) {
  if (!messages.is_array() || messages.empty()) return "'messages' must be a list of at least one message";
  if (messages.size() > kMostMessages) return "'messages' holds more messages than the server takes";
  for (const Json& m : messages) {
    if (!m.is_object() || !m.contains("role") || !m["role"].is_string())
      return "every message needs a 'role', a string";
    const std::string role = m["role"].get<std::string>();
    if (std::find(std::begin(kRoles), std::end(kRoles), role) == std::end(kRoles))
      return "a message's 'role' must be system, developer, user, assistant or tool";
    const bool has = m.contains("content") && !m["content"].is_null();
    if (!has && role != "assistant") return "every message needs 'content', but for the assistant's";
    if (!has) continue;
    const Json& content = m["content"];
    if (content.is_string()) continue;
    if (!content.is_array()) return "a message's 'content' must be a string or a list of parts";
    for (const Json& part : content) {
      if (!part.is_object() || !part.contains("type") || part["type"] != "text" || !part.contains("text") ||
          !part["text"].is_string()) {
        return "a message's parts must be of type 'text': the server answers about text alone";
      }
    }
  }
  return "";
}

// "response_format", "json_schema" and "grammar".
void read_format(Fields& f, ChatRequest& request) {
  request.grammar = f.text("grammar");
  Json schema = f.has("json_schema") ? *f.get("json_schema") : Json();
  if (const Json* format = f.get("response_format")) {
    const std::string type = format->is_object() && format->contains("type") && (*format)["type"].is_string()
                                 ? (*format)["type"].get<std::string>()
                                 : "";
    const auto member = [](const Json& of, const char* name) {
      return of.is_object() && of.contains(name) ? of[name] : Json::object();
    };
    if (type == "json_object") {
      schema = member(*format, "schema");
    } else if (type == "json_schema") {
      schema = member(member(*format, "json_schema"), "schema");
    } else if (type != "text") {
      f.refuse("'response_format' must have the type 'text', 'json_object' or 'json_schema'");
    }
  }
  if (schema.is_null()) return;
  if (!schema.is_object()) return f.refuse("a JSON schema must be an object");
  if (schema.empty()) schema["type"] = "object";
  request.json_schema = schema.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (request.json_schema.size() > kMostSchema) f.refuse("the JSON schema is longer than the server takes");
  if (!request.grammar.empty()) f.refuse("only one of 'grammar' and a JSON schema can be given");
}

void read_tools(Fields& f, ChatRequest& request) {
  if (const Json* tools = f.get("tools")) {
    if (!tools->is_array()) return f.refuse("'tools' must be a list");
    if (!tools->empty()) request.tools = tools->dump(-1, ' ', false, Json::error_handler_t::replace);
  }
  if (const Json* choice = f.get("tool_choice")) {
    // One tool by its name: any must be called, and the others are not told of.
    if (choice->is_object() && choice->contains("function") && f.has("tools")) {
      const Json wanted =
          (*choice)["function"].is_object() ? (*choice)["function"].value("name", Json()) : Json();
      Json only = Json::array();
      for (const Json& tool : *f.get("tools")) {
        if (tool.is_object() && tool.contains("function") && tool["function"].is_object() &&
            tool["function"].value("name", Json()) == wanted) {
          only.push_back(tool);
        }
      }
      if (only.empty()) return f.refuse("'tool_choice' names no tool of 'tools'");
      request.tools = only.dump(-1, ' ', false, Json::error_handler_t::replace);
      request.tool_choice = "required";
    } else if (choice->is_string()) {
      request.tool_choice = choice->get<std::string>();
    } else {
      f.refuse("'tool_choice' must be 'none', 'auto', 'required' or a tool of 'tools'");
    }
  }
  if (f.has("parallel_tool_calls")) request.parallel_tool_calls = f.flag("parallel_tool_calls", false);
  if (const Json* arguments = f.get("chat_template_kwargs")) {
    if (!arguments->is_object()) return f.refuse("'chat_template_kwargs' must be an object");
    for (const auto& [name, value] : arguments->items()) request.template_arguments[name] = value.dump();
    if (arguments->contains("enable_thinking") && (*arguments)["enable_thinking"].is_boolean())
      request.thinking = (*arguments)["enable_thinking"].get<bool>();
  }
  const std::string effort = f.text("reasoning_effort");
  if (effort == "none") request.thinking = false;
  if (!effort.empty() && effort != "none")
    request.template_arguments["reasoning_effort"] = Json(effort).dump();
}

// As llama-server, an answer goes on from the assistant's message if that is the last.
void read_continuation(Fields& f, const Json& messages, ChatRequest& request) {
  const Json* field = f.get("continue_final_message");
  const bool asked = field != nullptr && *field != Json(false);
  if (!asked && messages.back()["role"] != "assistant") return;
  request.continuation = Continuation::either;
  if (asked && *field == "content") request.continuation = Continuation::content;
  if (asked && *field == "reasoning_content") request.continuation = Continuation::reasoning;
  if (asked && !field->is_boolean() && request.continuation == Continuation::either)
    f.refuse("'continue_final_message' must be true, false, 'content' or 'reasoning_content'");
  if (asked && f.flag("add_generation_prompt", false))
    f.refuse("only one of 'add_generation_prompt' and 'continue_final_message' can be asked for");
}

// Turns about a context that is named: no template's system turn comes before it, as it has one already.
Result<void> plan_behind_context(const Api& api, const Json& messages, const ChatRequest& request,
                                 Task& task) {
  if (!request.tools.empty())
    return Error{ErrorCode::bad_input,
                 "tools stand before a document, so that they cannot be used with 'context'"};
  std::vector<Exchange> exchanges;
  for (const Json& m : messages) {
    const std::string role = m["role"].get<std::string>(), text = text_of(m);
    if (role == "user" && (exchanges.empty() || !exchanges.back().answer.empty())) {
      exchanges.push_back({exchanges.empty(), text, ""});
    } else if (role == "assistant" && !exchanges.empty() && exchanges.back().answer.empty()) {
      exchanges.back().answer = text;
    } else {
      return Error{
          ErrorCode::bad_input,
          "with 'context', messages must be the user's and the assistant's in turn: what a system turn "
          "says is settled when a context is made"};
    }
  }
  if (!exchanges.back().answer.empty())
    return Error{ErrorCode::bad_input, "the last message must be the user's"};
  CURDKV_TRY(task.tokens, api.engine.prompt().conversation(exchanges));
  if (!request.json_schema.empty()) {
    CURDKV_TRY(task.constraint.grammar, grammar_of_schema(request.json_schema));
  } else {
    task.constraint.grammar = request.grammar;
  }
  return {};
}

Result<void> plan_messages(const Api& api, const Json& messages, const ChatRequest& request,
                           const Press& press, Task& task, AnswerParser& parser) {
  CURDKV_TRY(RenderedChat rendered, render_request(*api.chat_template, request));
  std::vector<MessageText> texts;
  for (const Json& m : messages) texts.push_back({m["role"] == "user", text_of(m)});
  CURDKV_TRY(PromptPlan plan, plan_chat(*api.chat_template, api.engine.tokenizer(), request, rendered, texts,
                                        api.options.worth_compressing));
  task.links = links_of(plan, api.root, press);
  task.tokens = std::move(plan.tokens);
  task.constraint = std::move(rendered.constraint);
  task.shown = std::move(rendered.shown);
  for (std::string& stop : rendered.stops) task.stops.push_back(std::move(stop));
  parser = std::move(rendered.parser);
  return {};
}

void complete_chat(const Api& api, const httplib::Request& request, httplib::Response& response) {
  const auto body = api.body(request, response);
  if (!body) return;
  if (!api.chat_template)
    return answer(response, ApiError{.message = "the model has no chat template: use /v1/completions",
                                     .code = "no_chat_template"});
  Fields f(*body);
  const Json* messages = f.get("messages");
  const std::string wrong = check_messages(messages == nullptr ? Json() : *messages);
  if (!wrong.empty()) return answer(response, ApiError{.message = wrong});

  const auto task = std::make_shared<Task>();
  task->space = api.space(request);
  api.read_common(f, *task);
  ChatRequest chat = {.messages = messages->dump(-1, ' ', false, Json::error_handler_t::replace)};
  read_format(f, chat);
  read_tools(f, chat);
  read_continuation(f, *messages, chat);
  const bool logprobs = f.flag("logprobs", false);
  const int64_t n_top = f.integer("top_logprobs", 0, 0, 20);
  if (logprobs) task->n_top = static_cast<int>(n_top);
  const bool stream = f.flag("stream", false), progress = f.flag("return_progress", false);
  bool with_usage = false;
  if (const Json* options = f.get("stream_options")) {
    with_usage = options->is_object() && options->value("include_usage", Json(false)) == Json(true);
  }
  task->base = f.text("context");
  const auto press = api.press_of(f);
  if (f.error()) return answer(response, *f.error());
  if (!press) return answer(response, as_api_error(press.error()));

  AnswerParser parser;
  const auto planned = task->base.empty() ? plan_messages(api, *messages, chat, *press, *task, parser)
                                          : plan_behind_context(api, *messages, chat, *task);
  if (!planned) return answer(response, as_api_error(planned.error()));
  const auto possible = Sampler::create(task->sampling, api.engine.tokenizer(), task->constraint);
  if (!possible) return answer(response, as_api_error(possible.error()));
  if (const auto error = api.check_length(*task, 0)) return answer(response, *error);
  respond(api, {task}, chat_reply(api, std::move(parser), task->n_choices, logprobs, with_usage),
          {.stream = stream, .progress = progress}, request, response);
}

void apply_template(const Api& api, const httplib::Request& request, httplib::Response& response) {
  const auto body = api.body(request, response);
  if (!body) return;
  if (!api.chat_template) return answer(response, ApiError{.message = "the model has no chat template"});
  Fields f(*body);
  const Json* messages = f.get("messages");
  const std::string wrong = check_messages(messages == nullptr ? Json() : *messages);
  if (!wrong.empty()) return answer(response, ApiError{.message = wrong});
  ChatRequest chat = {.messages = messages->dump(-1, ' ', false, Json::error_handler_t::replace)};
  read_format(f, chat);
  read_tools(f, chat);
  read_continuation(f, *messages, chat);
  chat.add_generation_prompt = f.flag("add_generation_prompt", true);
  if (f.error()) return answer(response, *f.error());
  const auto rendered = render_request(*api.chat_template, chat);
  if (!rendered) return answer(response, as_api_error(rendered.error()));
  answer(response, Json{{"prompt", rendered->text()}});
}

}  // namespace

void add_chat_routes(httplib::Server& server, const Api& api) {
  for (const char* path : {"/v1/chat/completions", "/chat/completions"}) {
    server.Post(path, [&api](const auto& request, auto& response) { complete_chat(api, request, response); });
  }
  server.Post("/apply-template",
              [&api](const auto& request, auto& response) { apply_template(api, request, response); });
}

}  // namespace curdkv::server
