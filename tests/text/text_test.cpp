// Tokenizer, prompts and sampling on a byte-level vocabulary.
#include "curdkv/text.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "curdkv/generate.h"
#include "support/one_sequence.h"
#include "support/tiny_model.h"

namespace curdkv::testing {
namespace {

std::string model_path() {
  static const std::string path = write_tiny_model({}, temp_path("text.gguf"));
  return path;
}

const Tokenizer& tokenizer() {
  static const Tokenizer t = must(Tokenizer::load(model_path()));
  return t;
}

TEST(Tokenizer, RoundTrips) {
  for (const std::string text :
       {"the thing in an ant", "caf\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80", "a\nb\t c  "}) {
    EXPECT_EQ(tokenizer().text(must(tokenizer().tokenize(text, false, false))), text);
  }
  EXPECT_TRUE(must(tokenizer().tokenize("", false, false)).empty());
}

TEST(Tokenizer, ControlTokensOnlyWhenAsked) {
  const auto as_text = must(tokenizer().tokenize("<|im_end|>", false, false));
  const auto as_control = must(tokenizer().tokenize("<|im_end|>", true, false));
  EXPECT_GT(as_text.size(), 1u);
  ASSERT_EQ(as_control.size(), 1u);
  EXPECT_TRUE(tokenizer().ends_generation(as_control[0]));
  EXPECT_EQ(tokenizer().piece(as_control[0]), "");
}

TEST(Prompt, ContextAndQuestionMakeOneTurn) {
  const Prompt prompt = must(Prompt::create(tokenizer()));
  const auto expected = must(tokenizer().tokenize("<|im_start|>user\n", true, true));
  auto context = must(prompt.context("Doc."));
  ASSERT_GT(context.size(), expected.size());
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(), context.begin()));
  EXPECT_TRUE(tokenizer().text(context).ends_with("user\nDoc."));
  const auto question = must(prompt.question("Why?"));
  EXPECT_EQ(tokenizer().text(question), "\n\nWhy?\nassistant\n");
  EXPECT_TRUE(tokenizer().ends_generation(
      question[question.size() -
               must(tokenizer().tokenize("<|im_end|>\n<|im_start|>assistant\n", true, false)).size()]));
}

TEST(Prompt, ADocumentCannotCloseItsTurn) {
  const Prompt prompt = must(Prompt::create(tokenizer()));
  for (Token t : must(prompt.context("x<|im_end|>y"))) EXPECT_FALSE(tokenizer().ends_generation(t));
}

TEST(Prompt, RawIsPlain) {
  const Prompt prompt = must(Prompt::create(tokenizer(), {.chat = false}));
  EXPECT_EQ(tokenizer().text(must(prompt.context("Doc."))), "Doc.");
  EXPECT_EQ(tokenizer().text(must(prompt.question(" and"))), " and");
}

TEST(Sampler, GreedyAndSeeded) {
  std::vector<float> logits(50, 0.0f);
  logits[17] = 1;
  Sampler greedy = must(Sampler::create({}));
  EXPECT_EQ(greedy.sample(logits), 17);
  SamplingParams params;
  params.temperature = 1;
  params.top_p = 1;
  params.min_p = 0;
  params.top_k = 0;
  const auto draw = [&](Sampler& s) {
    std::vector<Token> out;
    for (int i = 0; i < 50; ++i) out.push_back(s.sample(logits));
    return out;
  };
  Sampler a = must(Sampler::create(params));
  const auto first = draw(a);
  EXPECT_GT(std::set<Token>(first.begin(), first.end()).size(), 10u);
  Sampler again = must(Sampler::create(params));
  EXPECT_EQ(draw(again), first) << "the same seed gives the same random numbers";
  params.seed = 7;
  Sampler b = must(Sampler::create(params));
  EXPECT_NE(draw(b), first);
  params.top_k = 1;
  Sampler c = must(Sampler::create(params));
  EXPECT_EQ(c.sample(logits), 17);
  for (float bad : {-1.0f, std::nanf(""), INFINITY}) {
    params.temperature = bad;
    EXPECT_FALSE(Sampler::create(params));
  }
}

TEST(Generate, StreamsWhatItReturns) {
  const Model model = must(Model::load(model_path()));
  OneSequence session = must(OneSequence::create(model, {}));
  GenerateOptions options;
  options.n_predict = 20;
  EXPECT_FALSE(generate(session.executor, session.sequence, tokenizer(), options))
      << "nothing to generate from";
  must(session.read(must(tokenizer().tokenize("the king", false, true)), Press()));
  std::string streamed;
  options.on_text = [&](const std::string& text) { streamed += text; };
  const Generation g = must(generate(session.executor, session.sequence, tokenizer(), options));
  EXPECT_EQ(g.text, streamed);
  EXPECT_TRUE(g.ended || g.tokens.size() == 20u);
}

}  // namespace
}  // namespace curdkv::testing
