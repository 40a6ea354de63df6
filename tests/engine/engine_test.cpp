// A model, its tokenizer and its prompt in one, shared by copies, executors and threads.
#include "curdkv/engine.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <thread>

#include "support/must.h"
#include "support/tiny_model.h"

namespace curdkv::testing {
namespace {

const std::string& path() {
  static const std::string p = write_tiny_model({}, temp_path("engine.gguf"));
  return p;
}

const std::string kDocument = "the king in the north and the queen in the south went to the sea ";

using Kept = std::vector<std::vector<std::vector<int32_t>>>;

Kept kept_by_kvzip(Executor executor, const Prompt& prompt) {
  Sequence sequence = executor.sequence();
  must(executor.read(sequence, must(prompt.context(kDocument + kDocument)), make_press("kvzip", 0.5)));
  return sequence.kept_tokens();
}

// Also when copy and executor outlive the engine, and with two threads at once.
TEST(Engine, GivesWhatItsPartsGive) {
  const Model model = must(Model::load(path()));
  const Tokenizer tokenizer = must(Tokenizer::load(path()));
  for (const PromptOptions& options :
       {PromptOptions{}, PromptOptions{.chat = false}, PromptOptions{.system = "Be brief."}}) {
    const Prompt prompt = must(Prompt::create(tokenizer, options));
    ExecutorParams params;
    params.repeats = [&](std::span<const Token> context) { return prompt.repeats(context); };
    const Kept expected = kept_by_kvzip(must(Executor::create(model, params)), prompt);
    std::optional<Engine> engine = must(Engine::open(path(), {.prompt = options}));
    EXPECT_EQ(must(engine->prompt().question("why?")), must(prompt.question("why?")));
    const Engine copy = *engine;
    Executor executor = must(engine->executor());
    engine.reset();
    Kept other;
    std::jthread thread([&] { other = kept_by_kvzip(must(copy.executor()), copy.prompt()); });
    EXPECT_EQ(kept_by_kvzip(std::move(executor), copy.prompt()), expected);
    thread.join();
    EXPECT_EQ(other, expected);
  }
}

TEST(Engine, OwnWordsAreRepeatedAndNoQuestion) {
  const Engine engine = must(Engine::open(path()));
  size_t n_context = 0;
  ExecutorParams params;
  params.repeats = [&](std::span<const Token> context) {
    n_context = context.size();
    return engine.prompt().repeats(context);
  };
  Executor executor = must(engine.executor(params));
  std::vector<Token> tokens = must(engine.prompt().context(kDocument));
  const size_t n_expected = tokens.size();
  const std::vector<Token> question = must(engine.prompt().question("why?"));
  tokens.insert(tokens.end(), question.begin(), question.end());
  Sequence sequence = executor.sequence();
  ReadOptions options;
  options.n_question = std::ssize(question);
  const ReadReport report = must(executor.read(sequence, tokens, make_press("kvzip", 0.5), options));
  EXPECT_EQ(n_context, n_expected);
  EXPECT_EQ(report.kv_bytes, sequence.kv_bytes());
  EXPECT_EQ(report.kv_bytes_full, executor.kv_bytes_full(std::ssize(tokens)));
}

TEST(Engine, ChatsWhereTheModelHasATemplate) {
  std::stringstream bytes;
  bytes << std::ifstream(path(), std::ios::binary).rdbuf();
  std::string without = bytes.str();
  without.replace(without.find("tokenizer.chat_template"), 9, "something");
  const std::string raw = temp_path("raw.gguf");
  std::ofstream(raw, std::ios::binary) << without;
  EXPECT_TRUE(must(Engine::open(path())).prompt().is_chat());
  EXPECT_FALSE(must(Engine::open(path(), {.prompt = {.chat = false}})).prompt().is_chat());
  EXPECT_FALSE(must(Engine::open(raw)).prompt().is_chat());
  EXPECT_TRUE(must(Engine::open(raw, {.prompt = {.chat_template = {"chatml"}}})).prompt().is_chat());
  for (const PromptOptions& asked : {PromptOptions{.chat = true}, PromptOptions{.system = "Be brief."}}) {
    const auto engine = Engine::open(raw, {.prompt = asked});
    ASSERT_FALSE(engine);
    EXPECT_EQ(engine.error().code, ErrorCode::unsupported);
  }
}

}  // namespace
}  // namespace curdkv::testing
