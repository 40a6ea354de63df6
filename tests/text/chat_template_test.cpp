// Prompts: every chat template that llama.cpp ships gives what llama-server makes of it, users' text stays
// plain, and templates that cannot be used say so.
#include <gtest/gtest.h>
#include <llama.h>

#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "curdkv/text.h"
#include "support/must.h"
#include "support/tiny_model.h"
#include "text/tokenizer_impl.h"

namespace curdkv::testing {
namespace {

using Json = nlohmann::ordered_json;

std::string read(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

const Tokenizer& tokenizer() {
  static const Tokenizer t = must(Tokenizer::load(write_tiny_model({}, temp_path("prompt.gguf"))));
  return t;
}

// libllama's own tokens of a whole text.
std::vector<Token> libllamas(const Tokenizer& t, const std::string& text, bool begin, bool specials) {
  std::vector<Token> out(text.size() + 4);
  const int32_t n = llama_tokenize(t.impl().vocab, text.data(), static_cast<int32_t>(text.size()), out.data(),
                                   static_cast<int32_t>(out.size()), begin, specials);
  EXPECT_GE(n, 0);
  out.resize(static_cast<size_t>(std::max(n, 0)));
  return out;
}

std::vector<Message> messages_of(const Json& list) {
  std::vector<Message> out;
  for (const Json& m : list) out.push_back({m["role"], m["content"]});
  return out;
}

std::string joined(const std::vector<PromptPart>& parts) {
  std::string out;
  for (const PromptPart& p : parts) out += p.text;
  return out;
}

Result<ChatTemplate> make(const std::string& source, std::chrono::system_clock::time_point now = {}) {
  return ChatTemplate::create(tokenizer(), {.source = source, .now = now});
}

// Under a sanitizer, which takes minutes for all, every so many templates.
#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kEvery = 8;
#else
constexpr size_t kEvery = 1;
#endif

// Goldens by tests/goldens/prompts.py, from a real llama-server.
TEST(ChatTemplates, AreWhatLlamaServerMakesOfThem) {
  setenv("TZ", "UTC", 1);
  tzset();
  const Json golden = Json::parse(read(std::string(CURDKV_TEST_DATA) + "/prompts.json"));
  const auto now = std::chrono::system_clock::from_time_t(golden["now"].get<std::time_t>());
  size_t n_rendered = 0, n_seen = 0;
  for (const auto& [file, prompts] : golden["prompts"].items()) {
    if (n_seen++ % kEvery != 0) continue;
    SCOPED_TRACE(file);
    const std::string source = read(std::filesystem::path(CURDKV_TEMPLATES) / file);
    ASSERT_FALSE(source.empty());
    const auto chat_template = make(source, now);
    EXPECT_EQ(bool(chat_template), !prompts.is_null())
        << (chat_template ? "" : chat_template.error().message);
    if (!chat_template || prompts.is_null()) continue;
    for (const auto& [name, expected] : prompts.items()) {
      SCOPED_TRACE(name);
      const auto messages = messages_of(golden["conversations"][name]);
      const auto text = chat_template->render(messages, true);
      EXPECT_EQ(bool(text), !expected.is_null()) << (text ? "" : text.error().message);
      if (!text || expected.is_null()) continue;
      EXPECT_EQ(*text, expected.get<std::string>());
      const auto parts = must(chat_template->parts(messages, true));
      EXPECT_EQ(joined(parts), *text);
      EXPECT_EQ(must(tokenizer().tokenize(parts, true)), libllamas(tokenizer(), *text, true, true));
      for (const Message& m : messages) {
        if (m.role != "user") continue;
        const auto is_it = [&](const PromptPart& p) {
          return p.from_user && m.content.find(p.text) != std::string::npos && !p.text.empty();
        };
        EXPECT_TRUE(std::any_of(parts.begin(), parts.end(), is_it)) << m.content;
      }
      ++n_rendered;
    }
  }
  EXPECT_GT(n_rendered, kEvery == 1 ? 300u : 20u);
}

// The same, as `curdkv run` has it: the document first, questions later.
TEST(Prompt, ContextAndQuestionAreTheWholesTokens) {
  setenv("TZ", "UTC", 1);
  tzset();
  const Json golden = Json::parse(read(std::string(CURDKV_TEST_DATA) + "/prompts.json"));
  size_t n_seen = 0;
  for (const auto& [file, prompts] : golden["prompts"].items()) {
    if (n_seen++ % kEvery != 0 || prompts.is_null()) continue;
    for (const std::string name : {"one turn", "system", "blanks"}) {
      if (prompts[name].is_null()) continue;
      SCOPED_TRACE(file + ": " + name);
      const auto messages = messages_of(golden["conversations"][name]);
      PromptOptions options;
      options.system = messages[0].role == "system" ? messages[0].content : "";
      options.chat_template.source = read(std::filesystem::path(CURDKV_TEMPLATES) / file);
      options.chat_template.now = std::chrono::system_clock::from_time_t(golden["now"].get<std::time_t>());
      const Prompt prompt = must(Prompt::create(tokenizer(), options));
      const std::string& content = messages.back().content;
      const size_t between = content.rfind("\n\n");
      auto tokens = must(prompt.context(content.substr(0, between)));
      const auto question = must(prompt.question(content.substr(between + 2)));
      tokens.insert(tokens.end(), question.begin(), question.end());
      EXPECT_EQ(tokens, libllamas(tokenizer(), prompts[name].get<std::string>(), true, true));
    }
  }
}

// And as `curdkv chat` has it, the document first and then turn by turn.
TEST(Prompt, AConversationBehindItsDocumentIsTheWholesTokens) {
  setenv("TZ", "UTC", 1);
  tzset();
  const Json golden = Json::parse(read(std::string(CURDKV_TEST_DATA) + "/prompts.json"));
  size_t n_seen = 0, n_same = 0;
  for (const auto& [file, prompts] : golden["prompts"].items()) {
    if (n_seen++ % kEvery != 0 || prompts.is_null()) continue;
    for (const std::string name : {"two turns", "thinking"}) {
      if (prompts[name].is_null()) continue;
      SCOPED_TRACE(file + ": " + name);
      auto messages = messages_of(golden["conversations"][name]);
      PromptOptions options;
      if (messages[0].role == "system") {
        options.system = messages[0].content;
        messages.erase(messages.begin());
      }
      options.chat_template.source = read(std::filesystem::path(CURDKV_TEMPLATES) / file);
      options.chat_template.now = std::chrono::system_clock::from_time_t(golden["now"].get<std::time_t>());
      const Prompt prompt = must(Prompt::create(tokenizer(), options));
      std::vector<Exchange> exchanges;
      for (size_t i = 0; i < messages.size(); i += 2)
        exchanges.push_back(
            {false, messages[i].content, i + 1 < messages.size() ? messages[i + 1].content : ""});
      const auto whole = libllamas(tokenizer(), prompts[name].get<std::string>(), true, true);
      EXPECT_EQ(must(prompt.conversation(exchanges)), whole);

      const std::string content = exchanges[0].question;
      const size_t between = content.rfind("\n\n");
      exchanges[0] = {true, content.substr(between + 2), exchanges[0].answer};
      auto tokens = must(prompt.context(content.substr(0, between)));
      const auto behind = must(prompt.conversation(exchanges));
      tokens.insert(tokens.end(), behind.begin(), behind.end());
      // This one moves the system turn to the user's last.
      const bool moves = name == "thinking" && file == "mistralai-Mistral-Nemo-Instruct-2407.jinja";
      EXPECT_EQ(tokens == whole, !moves);
      n_same += tokens == whole;
    }
  }
  EXPECT_GT(n_same, kEvery == 1 ? 100u : 10u);
}

TEST(ChatTemplates, TellTheDateTheyAreGiven) {
  const auto day = std::chrono::system_clock::from_time_t(86400 * 200);
  const std::string source =
      "{{ strftime_now('%Y-%m-%d') }} {{ date_string }}{% for m in messages %}{{ m.content }}{% endfor %}";
  EXPECT_EQ(must(must(make(source, day)).user_turn("")).before, "1970-07-20 20 Jul 1970");
}

TEST(ChatTemplates, SystemTurns) {
  const std::string with_default =
      "{% if messages[0].role != 'system' %}<sys>Be kind.</sys>{% endif %}"
      "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}";
  EXPECT_EQ(must(must(make(with_default)).user_turn("")).before, "<sys>Be kind.</sys><user>");
  EXPECT_EQ(must(must(make(with_default)).user_turn("Short.")).before, "<system>Short.<user>");
}

struct Unfit {
  std::string source, words;
  std::optional<ErrorCode> code = {};
};

TEST(ChatTemplates, ThatCannotBeUsedSaySo) {
  std::string deep = "{{ ";
  for (int i = 0; i < 100000; ++i) deep += "(";
  std::string chain = "{{ 1";
  for (int i = 0; i < 100000; ++i) chain += "~1";
  std::string nested;
  for (int i = 0; i < 20000; ++i) nested += "{% if 1 %}";
  const std::string user = "{{ messages[-1].content }}";
  const std::vector<Unfit> cases = {
      {"nothing of it {{ 1 }}", "leaves out or changes", ErrorCode::unsupported},
      {user + user, "repeats", ErrorCode::unsupported},
      {"{{ messages[-1].content | tojson }}", "leaves out or changes"},
      {"{{ messages[-1].content | upper }}", "leaves out or changes"},
      {"{{ raise_exception('a system turn is needed') }}", "a system turn is needed", ErrorCode::bad_input},
      {"{{ messages[-1].content", "cannot be used", ErrorCode::corrupt},
      {"{% for m in messages %}", "cannot be used"},
      {"{{ nosuch() }}", "is not a function"},
      {"llama-9000", "neither a chat template in Jinja nor one of the names", ErrorCode::bad_argument},
      {user + "{% for i in range(1000000000) %}x{% endfor %}", "does not come to an end"},
      {user + "{% for i in range(10000) %}{% for j in range(10000) %}{% endfor %}{% endfor %}",
       "does not come"},
      {user + "{% set ns = namespace(s='x') %}{% for i in range(64) %}{% set ns.s = ns.s ~ ns.s %}{% endfor "
              "%}{{ ns.s }}",
       "does not come"},
      {user + "{{ 'x' * 10000000000 }}", "does not come"},
      {user + "{{ 'aaaaaaaa' | replace('', 'x' * 100000000) }}", "does not come"},
      {user + "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "nested too deeply"},
      {user + "{% set a = [] %}{% set _ = a.append(a) %}{{ a | tojson }}", "nested too deeply"},
      {user + "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}", ""},
      {user + "{{ 7 is divisibleby(0) }}", "division by zero"},
      {deep, "nested too deeply"},
      {chain + " }}", "nested too deeply"},
      {nested, "nested too deeply"},
  };
  for (const Unfit& c : cases) {
    SCOPED_TRACE(c.source.substr(0, 100));
    const auto made = make(c.source);
    if (c.words.empty()) continue;  // only that it comes back
    ASSERT_FALSE(made);
    EXPECT_NE(made.error().message.find(c.words), std::string::npos) << made.error().message;
    EXPECT_EQ(made.error().code, c.code.value_or(made.error().code)) << made.error().message;
    EXPECT_EQ(made.error().message.find('\n'), std::string::npos) << made.error().message;
  }
}

TEST(ChatTemplates, ByName) {
  const std::string chatml = must(must(make("chatml")).user_turn("")).before;
  EXPECT_EQ(chatml, "<|im_start|>user\n");
  EXPECT_EQ(must(must(make("llama2")).user_turn("")).before, "[INST] ");
}

TEST(Prompt, BlanksThatTheTemplateTakesOff) {
  const std::string trims = "<u>{% for m in messages %}{{ m.content | trim }}{% endfor %}</u>";
  PromptOptions options;
  options.chat_template.source = trims;
  const Prompt prompt = must(Prompt::create(tokenizer(), options));
  EXPECT_EQ(tokenizer().text(must(prompt.context(" \n A doc. "))), "<u>A doc. ");
  EXPECT_EQ(tokenizer().text(must(prompt.question(" Why? \n"))), "\n\n Why?</u>");
}

}  // namespace
}  // namespace curdkv::testing
