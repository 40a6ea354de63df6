// Conversations: their tokens are the template's, whatever was held, compressed or read in between.
#include "curdkv/conversation.h"

#include <gtest/gtest.h>

#include "engine/sequence_state.h"
#include "support/expect_error.h"
#include "support/must.h"
#include "support/tiny_model.h"

namespace curdkv::testing {
namespace {

constexpr const char* kDocument = "The thing in the north is an ant. It has an anthill in the tin.";
// Templates that treat turns alike, that put the system turn into the user's first, and that leave thinking
// out of all answers but the last.
const char* const kTemplates[] = {
    "chatml",
    "llama2-sys",
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}",
    "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' and '</think>' in m.content %}"
    "{{ m.content.split('</think>')[-1] }}{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}",
};

const std::string& path() {
  static const std::string p = [] {
    TinyModel shape = three_layers();
    return write_tiny_model(shape, temp_path("conversation.gguf"));
  }();
  return p;
}

Engine open(const std::string& source = "chatml", const std::string& system = "") {
  PromptOptions prompt;
  prompt.system = system;
  prompt.chat_template.source = source;
  return must(Engine::open(path(), {.prompt = prompt}));
}

std::vector<Token> operator+(std::vector<Token> a, const std::vector<Token>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST(Conversation, ItsTokensAreThoseOfTheWholeRendering) {
  const std::vector<Exchange> plain = {{false, "What is an ant?", "An <b>ant</b>."},
                                       {false, " Why the tin?\n", "<think>\nSo.\n</think>\n\nIn it."},
                                       {false, "Thank you!", "Not looked at."}};
  for (const std::string source : kTemplates) {
    for (const std::string system : {"", "Be brief."}) {
      SCOPED_TRACE(source + " " + system);
      const Engine engine = open(source, system);
      const Tokenizer& tokenizer = engine.tokenizer();
      const auto chat_template = must(ChatTemplate::create(tokenizer, {.source = source}));
      for (const bool with_document : {false, true}) {
        std::vector<Message> messages;
        if (!system.empty()) messages.push_back({"system", system});
        std::vector<Exchange> exchanges;
        for (size_t n = 0; n < plain.size(); ++n) {
          exchanges.push_back(plain[n]);
          exchanges[n].document = with_document && n == 0;
          const std::string lead = exchanges[n].document ? std::string(kDocument) + "\n\n" : "";
          messages.push_back({"user", lead + plain[n].question});
          const std::string text = must(chat_template.render(messages, true));
          const auto parts = must(chat_template.parts(messages, true));
          auto whole = must(tokenizer.tokenize(parts, true));
          EXPECT_EQ(must(tokenizer.tokenize(text, true, true)), whole);
          std::vector<Token> ours = must(engine.prompt().conversation(exchanges));
          if (with_document) ours = must(engine.prompt().context(kDocument)) + ours;
          EXPECT_EQ(tokenizer.text(ours), tokenizer.text(whole));
          EXPECT_EQ(ours, whole);
          messages.push_back({"assistant", plain[n].answer});
        }
        // An opened turn goes on with its question.
        std::vector<Token> opened = must(engine.prompt().opening(std::span(exchanges).first(2), "Thank"));
        const std::vector<Token> asked = must(engine.prompt().conversation(exchanges));
        ASSERT_LT(opened.size(), asked.size());
        EXPECT_TRUE(std::equal(opened.begin(), opened.end(), asked.begin()));
      }
    }
  }
}

struct Chat {
  explicit Chat(const Engine& e, int64_t budget = 0, const std::string& press = "ridgekv")
      : engine(e),
        executor(must(e.executor({.n_threads = 2}))),
        conversation(must(Conversation::create(e, executor, {.budget = budget, .press = {.name = press}}))) {}

  void read(const std::string& document, double ratio = 0.5) {
    must(conversation.read(document, [&](int64_t) { return Result<Press>(make_press("knorm", ratio)); }));
  }
  std::string ask(const std::string& question) { return must(conversation.ask(question, options)).text; }

  const Engine& engine;
  Executor executor;
  Conversation conversation;
  GenerateOptions options = {.n_predict = 12};
};

// What the sequence would answer that gets the whole at once.
std::string answer_at_once(const Engine& engine, const std::vector<Token>& tokens,
                           const std::vector<Exchange>& exchanges) {
  Executor executor = must(engine.executor({.n_threads = 2}));
  Sequence s = executor.sequence();
  if (!tokens.empty()) must(executor.read(s, tokens, make_press("knorm", 0.5)));
  must(executor.extend(s, must(engine.prompt().conversation(exchanges))));
  return must(generate(executor, s, engine.tokenizer(), {.n_predict = 12})).text;
}

TEST(Conversation, AnswersAsIfTheWholeWereAppendedAtOnce) {
  for (const char* source : kTemplates) {
    SCOPED_TRACE(source);
    const Engine engine = open(source);
    for (const bool with_document : {false, true}) {
      Chat chat(engine);
      if (with_document) chat.read(kDocument);
      const auto context = with_document ? must(engine.prompt().context(kDocument)) : std::vector<Token>();
      std::vector<Exchange> exchanges;
      for (const char* q : {"What is an ant?", "Why?", "Who is it?"}) {
        exchanges.push_back({with_document && exchanges.empty(), q, ""});
        exchanges.back().answer = chat.ask(q);
        EXPECT_EQ(exchanges.back().answer, answer_at_once(engine, context, exchanges)) << q;
      }
      EXPECT_EQ(must(chat.conversation.ask_again(chat.options)).text, exchanges.back().answer);
    }
  }
}

TEST(Conversation, ForgettingGoesBackToTheDocument) {
  const Engine engine = open();
  for (const int64_t budget : {0, 64}) {
    Chat chat(engine, budget);
    chat.read(kDocument);
    const ConversationSize before = chat.conversation.size();
    const std::string first = chat.ask("What is an ant?");
    for (int i = 0; i < 6; ++i) chat.ask("And what of the other thing, in the tin?");
    EXPECT_NE(chat.conversation.size().n_tokens, before.n_tokens);
    chat.conversation.forget();
    EXPECT_FALSE(chat.conversation.has_question());
    EXPECT_EQ(chat.conversation.size().n_tokens, before.n_tokens);
    EXPECT_EQ(chat.conversation.size().n_rows, before.n_rows);
    EXPECT_EQ(chat.ask("What is an ant?"), first);
  }
}

TEST(Conversation, ABudgetBoundsTheTurnsAndNotTheDocument) {
  const Engine engine = open();
  constexpr int64_t kBudget = 160;
  Chat chat(engine, kBudget);
  chat.read(kDocument);
  const int64_t of_document = chat.conversation.size().n_rows;
  int64_t n_shrunk = 0, last = 0;
  for (int i = 0; i < 20; ++i) {
    chat.ask("And what of the thing?");
    const ConversationSize size = chat.conversation.size();
    EXPECT_LE(size.n_turn_rows, kBudget + chat.options.n_predict);
    EXPECT_EQ(size.n_rows,
              of_document + size.n_turn_rows);  // keys of a document read by knorm, every head alike
    n_shrunk += size.n_turn_rows < last;
    last = size.n_turn_rows;
  }
  EXPECT_GE(n_shrunk, 2);
  EXPECT_GT(chat.conversation.size().n_turn_tokens, 4 * kBudget);
  const std::string answer = chat.ask("Why?");
  EXPECT_EQ(must(chat.conversation.ask_again(chat.options)).text, answer);
}

TEST(Conversation, FurtherDocumentsStandWhereTheTurnIs) {
  const Engine engine = open();
  Chat chat(engine);
  chat.read(kDocument, 0);
  chat.read("The tin has no ant.", 0);
  const std::string first = chat.ask("What?");
  chat.read("An inn is not a tin.", 0);
  const std::string second = chat.ask("And the inn?");
  // With nothing evicted that is the plain conversation.
  const std::vector<Exchange> same = {
      {false, std::string(kDocument) + "\n\nThe tin has no ant.\n\nWhat?", first},
      {false, "An inn is not a tin.\n\nAnd the inn?", second}};
  EXPECT_EQ(second, answer_at_once(engine, {}, same));
  EXPECT_EQ(must(chat.conversation.ask_in_full(chat.options)).text, second);
  chat.conversation.forget();
  EXPECT_EQ(chat.ask("And the inn?"), second);
}

TEST(Conversation, TheFullCacheAnswersBesideIt) {
  const Engine engine = open();
  Chat small(engine), whole(engine);
  small.read(kDocument, 0.7);
  whole.read(kDocument, 0);
  const std::string short_of = small.ask("What is an ant?");
  const ConversationSize before = small.conversation.size();
  const std::string in_full = must(small.conversation.ask_in_full(small.options)).text;
  EXPECT_EQ(in_full, whole.ask("What is an ant?"));
  EXPECT_NE(in_full, short_of);
  EXPECT_EQ(must(small.conversation.ask_in_full(small.options)).text, in_full);
  EXPECT_EQ(small.conversation.size().n_tokens, before.n_tokens);
  EXPECT_GT(small.conversation.size().kv_bytes_beside, before.kv_bytes);
}

TEST(Conversation, ASnapshotGoesOnWhereItWasTaken) {
  const Engine engine = open();
  Chat chat(engine);
  chat.read(kDocument, 0);
  chat.ask("What is an ant?");
  auto snapshot = must(chat.conversation.snapshot());
  ASSERT_EQ(std::ssize(snapshot.tokens), snapshot.sequence.n_tokens());
  Chat later(engine);
  must(later.conversation.start_from(std::move(snapshot.sequence), snapshot.tokens));
  // What follows a document: a blank line and the question.
  EXPECT_EQ(later.ask("Why?"), chat.ask("\n\nWhy?"));
}

TEST(Conversation, StoppedAnswersStayAndStoppedQuestionsDoNot) {
  const Engine engine = open();
  std::atomic<bool> stop = false;
  Executor executor = must(engine.executor({.n_threads = 2, .stop = &stop}));
  Conversation conversation = must(Conversation::create(engine, executor));
  GenerateOptions options = {.n_predict = 12};
  std::string said;
  options.on_text = [&](const std::string& text) {
    said += text;
    stop = said.size() > 6;
  };
  const auto stopped = conversation.ask("What is an ant?", options);
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().code, ErrorCode::cancelled);
  ASSERT_GT(said.size(), 6u);
  stop = false;
  options.on_text = nullptr;
  const std::string next = must(conversation.ask("Why?", options)).text;
  EXPECT_EQ(next, answer_at_once(engine, {}, {{false, "What is an ant?", said}, {false, "Why?", ""}}));
  stop = true;
  EXPECT_FALSE(conversation.ask("Who?", options));
  stop = false;
  EXPECT_EQ(must(conversation.ask_again(options)).text, next);
}

TEST(Conversation, SaysWhatCannotBe) {
  const Engine engine = open();
  Executor executor = must(engine.executor({.n_threads = 1, .n_ctx = 128}));
  expect_error(Conversation::create(engine, executor, {.budget = 63, .press = {.name = "ridgekv"}}),
               ErrorCode::bad_argument, "at least 64");
  expect_error(Conversation::create(engine, executor, {.budget = 64, .press = {.name = "recommended"}}),
               ErrorCode::bad_argument, "not tokens");
  for (const char* press : {"none", "kvzip", "ridgekv:sinks=60"}) {
    expect_error(Conversation::create(engine, executor, {.budget = 64, .press = {.name = press}}),
                 ErrorCode::bad_argument, "cannot keep turns within a budget of tokens");
  }
  Conversation conversation = must(Conversation::create(engine, executor));
  expect_error(conversation.ask_again(), ErrorCode::bad_input, "no question yet");
  expect_error(conversation.snapshot(), ErrorCode::bad_input, "nothing to save");
  const std::string answer = must(conversation.ask("Why?", {.n_predict = 4})).text;
  expect_error(conversation.ask(std::string(500, 'x')), ErrorCode::bad_input, "does not fit");
  EXPECT_EQ(must(conversation.ask_again({.n_predict = 4})).text, answer);
  expect_error(conversation.start_from(executor.sequence(), {}), ErrorCode::bad_argument, "begun already");
  const Engine raw = must(Engine::open(path(), {.prompt = {.chat = false}}));
  Executor other = must(raw.executor());
  expect_error(Conversation::create(raw, other), ErrorCode::unsupported, "chat template");
}

}  // namespace
}  // namespace curdkv::testing
