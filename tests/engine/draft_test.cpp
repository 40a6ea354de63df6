// Drafts: where they come from, when they stop, and that they change no answer.
#include <gtest/gtest.h>

#include "curdkv/generate.h"
#include "engine/prompt_lookup.h"
#include "support/one_sequence.h"
#include "support/tiny_model.h"

namespace curdkv::testing {
namespace {

TEST(PromptLookup, DraftsWhatFollowedTheLastTime) {
  const std::vector<Token> text = {1, 2, 3, 4, 5, 9, 1, 2, 3, 6, 7, 8};
  PromptLookup lookup(text);
  EXPECT_TRUE(lookup.draft(7).empty()) << "6, 7, 8 stood nowhere before";
  for (const Token t : {1, 2, 3}) lookup.append(t);
  EXPECT_EQ(lookup.draft(2), (std::vector<Token>{6, 7})) << "the latest place";
  EXPECT_EQ(lookup.draft(7), (std::vector<Token>{6, 7, 8, 1, 2, 3})) << "as far as the text goes";
  lookup.append(4);
  EXPECT_EQ(lookup.draft(1), (std::vector<Token>{5}));
  EXPECT_TRUE(lookup.draft(0).empty());
  EXPECT_TRUE(PromptLookup({}).draft(7).empty());
  EXPECT_TRUE(PromptLookup(std::span(text).first(2)).draft(7).empty());
}

TEST(DraftPace, DraftsWhileItPays) {
  DraftPace pace;
  EXPECT_EQ(pace.length(), 0u) << "there is nothing to compare with yet";
  for (int i = 0; i < 4; ++i) pace.note_alone(10);
  EXPECT_EQ(pace.length(), DraftPace::kShort);
  pace.note_drafted(3, 3, 13);
  EXPECT_EQ(pace.length(), DraftPace::kShort) << "once is not enough";
  pace.note_drafted(3, 3, 13);
  EXPECT_EQ(pace.length(), DraftPace::kLong) << "all right";
  pace.note_drafted(7, 2, 20);
  EXPECT_EQ(pace.length(), DraftPace::kShort);
  int n_wrong = 0;
  for (; pace.length() > 0 && n_wrong < 1000; ++n_wrong) pace.note_drafted(3, 0, 13);
  EXPECT_GT(n_wrong, 10) << "what was saved is spent";
  EXPECT_LT(n_wrong, 40);
  EXPECT_EQ(pace.length(), 0u);
  for (int i = 0; i < 100; ++i) pace.note_alone(10);
  EXPECT_EQ(pace.length(), DraftPace::kShort) << "in time it is tried again";
}

// On text without a draft that is right no more than a few parts in a hundred are lost.
TEST(DraftPace, CostsLittleWhereItNeverPays) {
  DraftPace pace;
  double ms = 0;
  int n_tokens = 0;
  for (; n_tokens < 300; ++n_tokens) {
    if (pace.length() > 0) {
      pace.note_drafted(3, 0, 14);
      ms += 14;
    } else {
      pace.note_alone(10);
      ms += 10;
    }
  }
  EXPECT_LE(ms, 10 * n_tokens * 1.03);
}

class Drafts : public ::testing::TestWithParam<ggml_type> {};

// The same text and the same logits at its end, greedy and sampled, from caches of any kind.
TEST_P(Drafts, ChangeNoAnswer) {
  TinyModel shape;
  shape.type = GetParam();
  const std::string path =
      write_tiny_model(shape, temp_path(std::string("draft-") + ggml_type_name(GetParam())));
  const Model model = must(Model::load(path));
  const Tokenizer tokenizer = must(Tokenizer::load(path));
  ExecutorParams params;
  params.n_threads = 2;
  Executor executor = must(Executor::create(model, params));
  // A text that repeats itself, as the answers of a tiny model soon do.
  std::vector<Token> context = random_tokens(40, model.info().n_vocab, 5);
  for (int i = 0; i < 2; ++i) context.insert(context.end(), context.begin(), context.begin() + 40);
  int64_t n_drafted = 0, n_accepted = 0;
  for (const char* press : {"none", "adacurdkv"}) {
    for (const float temperature : {0.0f, 0.7f}) {
      Sequence alone = executor.sequence();
      must(executor.read(alone, context, make_press(press, 0.5)));
      Sequence drafted = alone.fork();
      GenerateOptions options;
      options.sampling.temperature = temperature;
      options.n_predict = 150;
      const Generation expected = must(generate(executor, alone, tokenizer, options));
      options.draft = Draft::lookup;
      options.history = context;
      const Generation got = must(generate(executor, drafted, tokenizer, options));
      EXPECT_EQ(got.tokens, expected.tokens) << press << " " << temperature;
      EXPECT_EQ(got.text, expected.text);
      EXPECT_EQ(drafted.n_tokens(), alone.n_tokens());
      EXPECT_EQ(largest_difference(drafted.logits(), alone.logits()), 0);
      n_drafted += got.n_drafted;
      n_accepted += got.n_accepted;
    }
  }
  EXPECT_EQ(n_drafted > 0, executor.decodes_drafts());
  EXPECT_LE(n_accepted, n_drafted);
}

INSTANTIATE_TEST_SUITE_P(OfWeights, Drafts, ::testing::Values(GGML_TYPE_Q8_0, GGML_TYPE_Q4_1, GGML_TYPE_F16));

// Several tokens decoded at once have the bits of one after the other, wherever they are cut.
TEST(Drafts, DecodingSeveralChangesNoBit) {
  TinyModel shape;
  shape.type = GGML_TYPE_Q8_0;
  const Model model = must(Model::load(write_tiny_model(shape, temp_path("draft-several"))));
  Executor executor = must(Executor::create(model, {}));
  Sequence first = executor.sequence();
  must(executor.read(first, random_tokens(130, model.info().n_vocab, 1), make_press("adacurdkv", 0.5)));
  const auto text = random_tokens(24, model.info().n_vocab, 2);
  std::vector<std::vector<float>> expected;
  Sequence one = first.fork();
  for (size_t i = 0; i < text.size(); ++i) {
    must(executor.extend(one, std::span(text).subspan(i, 1)));
    expected.emplace_back(one.logits().begin(), one.logits().end());
  }
  for (const size_t n : {size_t{2}, size_t{3}, size_t{8}}) {
    Sequence several = first.fork();
    size_t i = 0;
    const LogitsSink sink = [&](int64_t position, std::span<const float> logits) {
      EXPECT_EQ(position, 130 + static_cast<int64_t>(i));
      EXPECT_EQ(largest_difference(logits, expected[i]), 0) << n << " at a time, token " << i;
      ++i;
    };
    for (size_t at = 0; at < text.size(); at += n) {
      const Span span = {&several, std::span(text).subspan(at, n), &sink, true};
      must(executor.step({&span, 1}));
    }
    EXPECT_EQ(i, text.size());
  }
}

TEST(Sequence, DropsItsLastTokens) {
  TinyModel shape;
  const Model model = must(Model::load(write_tiny_model(shape, temp_path("draft-drop"))));
  OneSequence s = must(OneSequence::create(model, {}));
  must(s.read(random_tokens(30, model.info().n_vocab, 1), Press()));
  must(s.extend(random_tokens(3, model.info().n_vocab, 2)));
  const std::vector<float> before(s.logits().begin(), s.logits().end());
  must(s.extend(random_tokens(5, model.info().n_vocab, 3)));
  must(s.sequence.drop_last(5, before));
  EXPECT_EQ(s.n_tokens(), 33);
  EXPECT_EQ(s.next_position(), 33);
  EXPECT_EQ(s.longest_head(), 33);
  EXPECT_EQ(largest_difference(s.logits(), before), 0);
  EXPECT_FALSE(s.sequence.drop_last(4, before)) << "three were appended to what was read";
  EXPECT_FALSE(s.sequence.drop_last(-1, before));
}

}  // namespace
}  // namespace curdkv::testing
