// llama.cpp's chat templates (common/chat.h), asked as its server asks them. The template is shown
// placeholders in place of what users wrote, and where they come out is where users' text stands.
#include <chat.h>
#include <jinja/limit.h>
#include <llama.h>
#include <log.h>

#include <algorithm>

#include "base/guard.h"
#include "base/try.h"
#include "curdkv/text.h"
#include "text/tokenizer_impl.h"

namespace curdkv {
namespace {

// What rendering may use, in bytes allocated and steps taken: the largest of llama.cpp's templates needs a
// fiftieth, and a template that never ends is stopped within seconds.
constexpr size_t kMostWork = size_t{256} << 20;
constexpr const char* kBlanks = " \t\n\v\f\r";
// With characters that a template which escapes, indents or changes case would not leave alone.
constexpr const char* kQuoted = "[curdkv: <Aa> & \\ \" '\n\xC3\xA9 ";

std::string placeholder(size_t i) {
  return kQuoted + std::to_string(i) + "]";
}

std::string trimmed(std::string text, const char* left, const char* right) {
  text.erase(text.find_last_not_of(right) + 1);
  text.erase(0, std::min(text.find_first_not_of(left), text.size()));
  return text;
}

// The engine's messages show the source around an error over several lines; the last says what is wrong.
std::string in_one_line(std::string message) {
  for (const char* lead : {"Error: ", "Jinja Exception: "}) {
    const size_t at = message.rfind(lead);
    if (at != std::string::npos) message.erase(0, at + std::string(lead).size());
  }
  message.erase(0, std::min(message.find_first_not_of('\n'), message.size()));
  return message.substr(0, message.find('\n'));
}

// The names of llama_chat_apply_template's list, which common's engine knows too when it does not run Jinja.
std::vector<std::string> builtin_names() {
  std::vector<const char*> names(static_cast<size_t>(std::max(llama_chat_builtin_templates(nullptr, 0), 0)));
  llama_chat_builtin_templates(names.data(), names.size());
  return {names.begin(), names.end()};
}

}  // namespace

struct ChatTemplate::Impl {
  Tokenizer tokenizer;  // the engine's templates refer to its model
  std::string whose;    // for messages
  std::chrono::system_clock::time_point now;
  bool jinja = true;
  bool thinking = false;
  bool parallel_tool_calls = false;
  common_chat_templates_ptr templates = nullptr;

  Error fail(const std::string& why) const {
    return Error{ErrorCode::bad_input,
                 whose + " " + why + " (--chat-template chatml, or another one, instead of it; --raw: none)"};
  }
  Result<void> load(const std::string& source);
  Result<std::string> render(std::span<const Message> messages, bool add_generation_prompt) const;
  Result<std::vector<std::string>> around(std::span<const Message> messages,
                                          bool add_generation_prompt) const;
};

Result<void> ChatTemplate::Impl::load(const std::string& source) {
  common_log_set_verbosity_thold(-1);  // the engine prints; what is wrong is told by exceptions
  const auto done = guarded([&] {
    const jinja::work_limit limit(kMostWork);
    // Once by hand, as common_chat_templates_init() loses the message.
    if (jinja && source != "chatml") const common_chat_template check(source, "", "");
    templates = common_chat_templates_init(tokenizer.impl().model.get(), source);
    parallel_tool_calls = common_chat_templates_get_caps(templates.get())["supports_parallel_tool_calls"];
    if (jinja) thinking = common_chat_templates_support_enable_thinking(templates.get());
  });
  if (!done && done.error().code == ErrorCode::out_of_memory) return done.error();
  return done ? Result<void>() : fail("cannot be used: " + in_one_line(done.error().message));
}

Result<std::string> ChatTemplate::Impl::render(std::span<const Message> messages,
                                               bool add_generation_prompt) const {
  std::string text;
  const auto done = guarded([&] {
    const jinja::work_limit limit(kMostWork);
    common_chat_templates_inputs inputs;
    for (const Message& m : messages) {
      common_chat_msg message;
      message.role = m.role;
      message.content = m.content;
      inputs.messages.push_back(std::move(message));
    }
    inputs.use_jinja = jinja;
    inputs.add_generation_prompt = add_generation_prompt;
    inputs.parallel_tool_calls = parallel_tool_calls;
    inputs.reasoning_format = COMMON_REASONING_FORMAT_DEEPSEEK;  // llama-server's default
    inputs.enable_thinking = thinking;
    inputs.now = now;
    text = common_chat_templates_apply(templates.get(), inputs).prompt;
  });
  if (done) return text;
  if (done.error().code == ErrorCode::out_of_memory) return done.error();
  return fail("fails: " + in_one_line(done.error().message));
}

// What the template writes before, between and behind the messages' texts, system turns' apart.
Result<std::vector<std::string>> ChatTemplate::Impl::around(std::span<const Message> messages,
                                                            bool add_generation_prompt) const {
  std::vector<Message> shown(messages.begin(), messages.end());
  std::vector<std::string> placeholders;
  for (Message& m : shown) {
    if (m.role == "system") continue;
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
      return Error{ErrorCode::bad_input,
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
    ChatTemplate out(impl);
    CURDKV_CHECK(out.user_turn(""));
    return out;
  });
}

Result<std::string> ChatTemplate::render(std::span<const Message> messages,
                                         bool add_generation_prompt) const {
  return guarded([&]() -> Result<std::string> { return impl_->render(messages, add_generation_prompt); });
}

namespace {

// Finds the texts that stand between `around` in the rendered conversation: a user's is the user's own but
// for blanks at its ends; of an answer the template may leave parts out, as its thinking.
class Alignment {
 public:
  Alignment(const std::string& text, const std::vector<std::string>& around,
            std::vector<const Message*> spoken)
      : text_(text), around_(around), spoken_(std::move(spoken)), found_(spoken_.size()) {}

  bool find() { return text_.starts_with(around_[0]) && find(0, around_[0].size()); }
  std::span<const std::string> found() const { return found_; }

 private:
  bool find(size_t i, size_t from) {
    if (i == spoken_.size()) return from == text_.size();
    const std::string& next = around_[i + 1];
    const auto try_to = [&](size_t end) {
      if (end > text_.size() || text_.compare(end, next.size(), next) != 0) return false;
      found_[i] = text_.substr(from, end - from);
      return find(i + 1, end + next.size());
    };
    const std::string& content = spoken_[i]->content;
    for (const char* left : {"", kBlanks}) {
      for (const char* right : {"", kBlanks}) {
        const std::string candidate = trimmed(content, left, right);
        if (text_.compare(from, candidate.size(), candidate) == 0 && try_to(from + candidate.size()))
          return true;
      }
    }
    if (spoken_[i]->role == "user" || next.empty()) return false;
    for (size_t end = text_.find(next, from); end != std::string::npos; end = text_.find(next, end + 1)) {
      if (content.find(text_.substr(from, end - from)) != std::string::npos && try_to(end)) return true;
    }
    return false;
  }

  const std::string& text_;
  const std::vector<std::string>& around_;
  std::vector<const Message*> spoken_;
  std::vector<std::string> found_;
};

}  // namespace

Result<std::vector<PromptPart>> ChatTemplate::parts(std::span<const Message> messages,
                                                    bool add_generation_prompt) const {
  return guarded([&]() -> Result<std::vector<PromptPart>> {
    CURDKV_TRY(const std::vector<std::string> around, impl_->around(messages, add_generation_prompt));
    CURDKV_TRY(const std::string text, render(messages, add_generation_prompt));
    std::vector<const Message*> spoken;
    for (const Message& m : messages) {
      if (m.role != "system") spoken.push_back(&m);
    }
    Alignment alignment(text, around, spoken);
    const bool aligned = alignment.find();
    CURDKV_TRY(const UserTurn turn, user_turn(""));
    std::vector<PromptPart> out = {{around[0]}};
    for (size_t i = 0; i < spoken.size(); ++i) {
      out.push_back({aligned
                         ? alignment.found()[i]
                         : trimmed(spoken[i]->content, turn.trimmed_left.c_str(), turn.trimmed_right.c_str()),
                     true});
      out.push_back({around[i + 1]});
    }
    return out;
  });
}

Result<UserTurn> ChatTemplate::user_turn(const std::string& system) const {
  return guarded([&]() -> Result<UserTurn> {
    constexpr std::string_view kEnds = "\n \n";
    std::vector<Message> messages;
    if (!system.empty()) messages.push_back({"system", system});
    messages.push_back({"user", ""});
    CURDKV_TRY(const std::vector<std::string> around, impl_->around(messages, true));
    UserTurn turn = {.before = around[0], .after = around[1], .trimmed_left = "", .trimmed_right = ""};

    messages.back().content = std::string(kEnds) + placeholder(0) + std::string(kEnds);
    CURDKV_TRY(const std::string text, render(messages, true));
    const size_t at = text.find(placeholder(0)), end = at + placeholder(0).size();
    if (at == std::string::npos || !text.starts_with(turn.before) || !text.ends_with(turn.after) ||
        at < turn.before.size() || end + turn.after.size() > text.size()) {
      return impl_->fail("depends on blanks around what users write");
    }
    const std::string left = text.substr(turn.before.size(), at - turn.before.size());
    const std::string right = text.substr(end, text.size() - turn.after.size() - end);
    if (left != kEnds) turn.trimmed_left = left.empty() ? kBlanks : "\n";
    if (right != kEnds) turn.trimmed_right = right.empty() ? kBlanks : "\n";
    if (!kEnds.ends_with(left) || !kEnds.starts_with(right)) {
      return impl_->fail("changes blanks around what users write");
    }
    return turn;
  });
}

std::vector<std::string> ChatTemplate::names() {
  std::vector<std::string> out = builtin_names();
  if (std::find(out.begin(), out.end(), "chatml") == out.end()) out.insert(out.begin(), "chatml");
  return out;
}

}  // namespace curdkv
