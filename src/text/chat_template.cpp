// llama.cpp's chat templates (common/chat.h), asked as its server asks them. The template is shown
// placeholders in place of what users wrote, and where they come out is where users' text stands.
#include <jinja/limit.h>
#include <llama.h>
#include <log.h>

#include <algorithm>

#include "base/guard.h"
#include "base/try.h"
#include "curdkv/text.h"
#include "text/chat_template_impl.h"
#include "text/tokenizer_impl.h"

namespace curdkv {
namespace {

// What rendering may use, in bytes allocated and steps taken: the largest of llama.cpp's templates needs a
// fiftieth, and a template that never ends is stopped within seconds.
constexpr size_t kMostWork = size_t{256} << 20;
constexpr const char* kBlanks = " \t\n\v\f\r";
// With characters that a template which escapes, indents or changes case would not leave alone.
constexpr const char* kQuoted = "[curdkv: <Aa> & \\ \" '\n\xC3\xA9 ";

std::string trimmed(std::string text, const char* left, const char* right) {
  text.erase(text.find_last_not_of(right) + 1);
  text.erase(0, std::min(text.find_first_not_of(left), text.size()));
  return text;
}

// The names of llama_chat_apply_template's list, which common's engine knows too when it does not run Jinja.
std::vector<std::string> builtin_names() {
  std::vector<const char*> names(static_cast<size_t>(std::max(llama_chat_builtin_templates(nullptr, 0), 0)));
  llama_chat_builtin_templates(names.data(), names.size());
  return {names.begin(), names.end()};
}

}  // namespace

std::string placeholder(size_t i) {
  return kQuoted + std::to_string(i) + "]";
}

std::string in_one_line(std::string message) {
  for (const char* lead : {"Error: ", "Jinja Exception: "}) {
    const size_t at = message.rfind(lead);
    if (at != std::string::npos) message.erase(0, at + std::string(lead).size());
  }
  message.erase(0, std::min(message.find_first_not_of('\n'), message.size()));
  return message.substr(0, message.find('\n'));
}

Error ChatTemplate::Impl::fail(const std::string& why, ErrorCode code) const {
  return Error{code,
               whose + " " + why + " (--chat-template chatml, or another one, instead of it; --raw: none)"};
}

std::string ChatTemplate::Impl::as_shown(const std::string& text) const {
  return trimmed(text, own_turn.trimmed_left.c_str(), own_turn.trimmed_right.c_str());
}

Result<void> ChatTemplate::Impl::load(const std::string& source) {
  common_log_set_verbosity_thold(-1);  // the engine prints; what is wrong is told by exceptions
  bool parsed = false;
  const auto done = guarded([&] {
    const jinja::work_limit limit(kMostWork);
    // Once by hand, as common_chat_templates_init() loses the message.
    if (jinja && source != "chatml") const common_chat_template check(source, "", "");
    parsed = true;
    templates = common_chat_templates_init(tokenizer.impl().model.get(), source);
    auto caps = common_chat_templates_get_caps(templates.get());
    tools = jinja && caps["supports_tools"];
    parallel_tool_calls = caps["supports_parallel_tool_calls"];
    if (jinja) thinking = common_chat_templates_support_enable_thinking(templates.get());
  });
  if (!done && done.error().code == ErrorCode::out_of_memory) return done.error();
  if (done) return {};
  return fail("cannot be used: " + in_one_line(done.error().message),
              parsed ? ErrorCode::bad_input : ErrorCode::corrupt);
}

common_chat_templates_inputs ChatTemplate::Impl::inputs() const {
  common_chat_templates_inputs inputs;
  inputs.use_jinja = jinja;
  inputs.parallel_tool_calls = parallel_tool_calls;
  inputs.reasoning_format = COMMON_REASONING_FORMAT_DEEPSEEK;
  inputs.enable_thinking = thinking;
  inputs.chat_template_kwargs["preserve_reasoning"] = "true";
  inputs.now = now;
  return inputs;
}

Result<common_chat_params> ChatTemplate::Impl::apply(const common_chat_templates_inputs& inputs) const {
  common_chat_params params;
  const auto done = guarded([&] {
    const jinja::work_limit limit(kMostWork);
    params = common_chat_templates_apply(templates.get(), inputs);
  });
  if (done) return params;
  if (done.error().code == ErrorCode::out_of_memory) return done.error();
  return fail("fails: " + in_one_line(done.error().message), ErrorCode::bad_input);
}

Result<std::string> ChatTemplate::Impl::render(std::span<const Message> messages,
                                               bool add_generation_prompt) const {
  common_chat_templates_inputs in = inputs();
  for (const Message& m : messages) {
    common_chat_msg message;
    message.role = m.role;
    message.content = m.content;
    in.messages.push_back(std::move(message));
  }
  in.add_generation_prompt = add_generation_prompt;
  CURDKV_TRY(const common_chat_params params, apply(in));
  return params.prompt;
}

// What the template writes before, between and behind the messages that are shown as placeholders.
Result<std::vector<std::string>> ChatTemplate::Impl::around(std::span<const Message> messages,
                                                            bool add_generation_prompt,
                                                            bool answers_too) const {
  std::vector<Message> shown(messages.begin(), messages.end());
  std::vector<std::string> placeholders;
  for (Message& m : shown) {
    if (m.role == "system" || (m.role != "user" && !answers_too)) continue;
    m.content = placeholder(placeholders.size());
    placeholders.push_back(m.content);
  }
  CURDKV_TRY(const std::string text, render(shown, add_generation_prompt));
  std::vector<std::string> out;
  size_t from = 0;
  for (const std::string& p : placeholders) {
    const size_t at = text.find(p);
    if (at == std::string::npos) return fail("leaves out or changes what users write");
    if (at < from) return fail("changes the order of the messages");
    if (text.find(p, at + 1) != std::string::npos) return fail("repeats what users write");
    out.push_back(text.substr(from, at - from));
    from = at + p.size();
  }
  out.push_back(text.substr(from));
  return out;
}

Result<ChatTemplate> ChatTemplate::create(const Tokenizer& tokenizer, const ChatTemplateOptions& options) {
  return guarded([&]() -> Result<ChatTemplate> {
    const std::string own = tokenizer.chat_template();
    if (options.source.empty() && own.empty()) {
      return Error{ErrorCode::unsupported,
                   "the model has no chat template; give one with --chat-template (chatml), or use --raw"};
    }
    const std::vector<std::string> known = names();
    const bool named = std::find(known.begin(), known.end(), options.source) != known.end();
    if (!named && !options.source.empty() && options.source.find('{') == std::string::npos) {
      std::string list;
      for (const std::string& name : known) list += (list.empty() ? "" : ", ") + name;
      return Error{ErrorCode::bad_argument,
                   "'" + options.source.substr(0, 80) +
                       "' is neither a chat template in Jinja nor one of the names " + list};
    }
    const auto impl = std::make_shared<Impl>(
        Impl{.tokenizer = tokenizer,
             .whose = options.source.empty() ? "the model's chat template" : "the chat template given",
             .now = options.now,
             .jinja = !named || options.source == "chatml"});
    CURDKV_CHECK(impl->load(options.source.empty() ? own : options.source));
    CURDKV_TRY(impl->own_turn, impl->user_turn(""));
    return ChatTemplate(impl);
  });
}

Result<std::string> ChatTemplate::render(std::span<const Message> messages,
                                         bool add_generation_prompt) const {
  return guarded([&]() -> Result<std::string> { return impl_->render(messages, add_generation_prompt); });
}

// Templates leave parts of answers out, as their thinking, or write other things around them because of it.
// So answers are rendered as they are, between users' placeholders, and what of that is the template's is
// seen by comparing it with the same around placeholders: where both begin and end alike.
Result<std::vector<PromptPart>> ChatTemplate::parts(std::span<const Message> messages,
                                                    bool add_generation_prompt) const {
  return guarded([&]() -> Result<std::vector<PromptPart>> {
    CURDKV_TRY(const std::vector<std::string> between, impl_->around(messages, add_generation_prompt, false));
    CURDKV_TRY(const std::vector<std::string> around, impl_->around(messages, add_generation_prompt, true));
    std::vector<PromptPart> out;
    size_t i = 0, n_users = 0;  // i: of `around`, the piece before the next message
    const auto add_between = [&](size_t n_answers) {
      const std::string &text = between[n_users], &head = around[i], &tail = around[i + n_answers];
      i += n_answers;
      if (n_answers == 0) {
        out.push_back({text});
        return;
      }
      const size_t begin = static_cast<size_t>(
          std::mismatch(head.begin(), head.end(), text.begin(), text.end()).first - head.begin());
      const size_t most = std::min(text.size() - begin, tail.size());
      size_t n_end = 0;
      while (n_end < most && tail[tail.size() - 1 - n_end] == text[text.size() - 1 - n_end]) ++n_end;
      out.push_back({text.substr(0, begin)});
      out.push_back({text.substr(begin, text.size() - n_end - begin), true});
      out.push_back({text.substr(text.size() - n_end)});
    };
    size_t n_answers = 0;
    for (const Message& m : messages) {
      if (m.role == "system") continue;
      if (m.role != "user") {
        ++n_answers;
        continue;
      }
      add_between(n_answers);
      n_answers = 0;
      out.push_back({impl_->as_shown(m.content), true});
      ++n_users;
      ++i;
    }
    add_between(n_answers);
    return out;
  });
}

Result<UserTurn> ChatTemplate::Impl::user_turn(const std::string& system) const {
  constexpr std::string_view kEnds = "\n \n";
  std::vector<Message> messages;
  if (!system.empty()) messages.push_back({"system", system});
  messages.push_back({"user", ""});
  CURDKV_TRY(const std::vector<std::string> around, around(messages, true, false));
  UserTurn turn = {.before = around[0], .after = around[1], .trimmed_left = "", .trimmed_right = ""};

  messages.back().content = std::string(kEnds) + placeholder(0) + std::string(kEnds);
  CURDKV_TRY(const std::string text, render(messages, true));
  const size_t at = text.find(placeholder(0)), end = at + placeholder(0).size();
  if (at == std::string::npos || !text.starts_with(turn.before) || !text.ends_with(turn.after) ||
      at < turn.before.size() || end + turn.after.size() > text.size()) {
    return fail("depends on blanks around what users write");
  }
  const std::string left = text.substr(turn.before.size(), at - turn.before.size());
  const std::string right = text.substr(end, text.size() - turn.after.size() - end);
  if (left != kEnds) turn.trimmed_left = left.empty() ? kBlanks : "\n";
  if (right != kEnds) turn.trimmed_right = right.empty() ? kBlanks : "\n";
  if (!kEnds.ends_with(left) || !kEnds.starts_with(right)) {
    return fail("changes blanks around what users write");
  }
  return turn;
}

Result<UserTurn> ChatTemplate::user_turn(const std::string& system) const {
  return guarded(
      [&]() -> Result<UserTurn> { return system.empty() ? impl_->own_turn : impl_->user_turn(system); });
}

std::vector<std::string> ChatTemplate::names() {
  std::vector<std::string> out = builtin_names();
  if (std::find(out.begin(), out.end(), "chatml") == out.end()) out.insert(out.begin(), "chatml");
  return out;
}

}  // namespace curdkv
