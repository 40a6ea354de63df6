// Decoding several sequences in step: the same as each would get, whoever is beside it.

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>

#include "support/one_sequence.h"
#include "support/tiny_model.h"

namespace curdkv::testing {
namespace {

Model make_model(ggml_type type) {
  const std::string path = temp_path(std::string("batch-") + ggml_type_name(type));
  return must(Model::load(write_tiny_model(three_layers(type), path)));
}

// Layers that differ in their heads.
Model make_unequal() {
  TinyModel shape = unequal_layers("llama");
  shape.type = GGML_TYPE_Q8_0;
  return must(Model::load(write_tiny_model(shape, temp_path("batch-unequal"))));
}

struct Reading {
  const char* press;
  double ratio;
  int64_t n_context;
};
// Presses of all kinds, more of them than a group of four, with contexts of their own.
const std::vector<Reading> kReadings = {{"none", 0, 300},
                                        {"adacurdkv", 0.7, 300},
                                        {"knorm", 0.5, 170},
                                        {"streamingllm", 0.9, 500},
                                        {"snapkv", 0.5, 64}};

OneSequence make_session(const Model& model, const Reading& s, CacheType type = CacheType::f16) {
  ExecutorParams params;
  params.type_k = params.type_v = type;
  OneSequence session = must(OneSequence::create(model, params));
  must(session.read(random_tokens(s.n_context, model.info().n_vocab, static_cast<uint32_t>(s.n_context)),
                    make_press(s.press, s.ratio)));
  return session;
}

std::vector<float> logits_of(const OneSequence& s) {
  return {s.logits().begin(), s.logits().end()};
}

// Logits after each of `n` steps for sequence `which`, decoded beside the others named.
std::vector<std::vector<float>> decode(const Model& model, const std::vector<size_t>& which, size_t of, int n,
                                       int n_threads, CacheType type = CacheType::f16) {
  ExecutorParams params;
  params.n_threads = n_threads;
  params.type_k = params.type_v = type;
  params.in_company = true;
  Executor executor = must(Executor::create(model, params));
  std::vector<OneSequence> sessions;
  std::vector<Sequence*> pointers;
  for (const size_t i : which) sessions.push_back(make_session(model, kReadings[i], type));
  for (OneSequence& s : sessions) pointers.push_back(&s.sequence);
  std::vector<std::vector<float>> out;
  for (int step = 0; step < n; ++step) {
    std::vector<Token> tokens;
    for (const size_t i : which) tokens.push_back(static_cast<Token>((7 * step + 13 * i) % 60));
    must(decode_together(executor, pointers, tokens));
    for (size_t k = 0; k < which.size(); ++k) {
      if (which[k] == of) out.push_back(logits_of(sessions[k]));
    }
  }
  return out;
}

TEST(Step, SameBitsInAnyCompanyWhereLayersDiffer) {
  const Model model = make_unequal();
  const auto alone = decode(model, {1}, 1, 10, 1);
  EXPECT_EQ(decode(model, {4, 3, 2, 1, 0}, 1, 10, 2), alone);
}

TEST(Step, SameBitsInAnyCompany) {
  const Model model = make_model(GGML_TYPE_Q8_0);
  for (const size_t of : {size_t{0}, size_t{1}, size_t{3}}) {
    // After more than 128 steps caches outgrow their room and move, and the graph is made anew.
    const int n = of == 1 ? 140 : 10;
    const auto alone = decode(model, {of}, of, n, 1);
    EXPECT_EQ(std::ssize(alone), n);
    EXPECT_EQ(decode(model, {0, 1, 2, 3, 4}, of, n, 1), alone);
    EXPECT_EQ(decode(model, {4, 3, 2, 1, 0}, of, n, 2), alone);
    EXPECT_EQ(decode(model, {2, of}, of, n, 2), alone);
  }
}

TEST(Step, AgreesWithDecodingAlone) {
  const Model model = make_model(GGML_TYPE_F32);
  for (size_t of = 0; of < kReadings.size(); ++of) {
    const auto together = decode(model, {0, 1, 2, 3, 4}, of, 20, 2, CacheType::f32);
    OneSequence session = make_session(model, kReadings[of], CacheType::f32);
    for (int step = 0; step < 20; ++step) {
      const Token token = static_cast<Token>((7 * step + 13 * static_cast<int>(of)) % 60);
      must(session.extend({&token, 1}));
      for (size_t i = 0; i < together[0].size(); ++i) {
        ASSERT_NEAR(session.logits()[i], together[static_cast<size_t>(step)][i], 1e-4) << of << " " << step;
      }
    }
    EXPECT_EQ(session.n_tokens(), kReadings[of].n_context + 20);
  }
}

// Members may come, go, be rewound and be prefilled anew between steps.
TEST(Step, FollowsItsSessions) {
  const Model model = make_model(GGML_TYPE_Q8_0);
  Executor executor = must(Executor::create(model, {}));
  OneSequence a = make_session(model, kReadings[1]), b = make_session(model, kReadings[2]);
  std::vector<Sequence*> both = {&a.sequence, &b.sequence}, one = {&a.sequence};
  const std::vector<Token> tokens = {5, 6};
  const auto mark = a.mark();
  must(decode_together(executor, both, tokens));
  const auto first = logits_of(a);
  must(a.rewind(mark));
  must(decode_together(executor, one, std::span(tokens).first(1)));
  EXPECT_EQ(logits_of(a), first);
  a.clear();
  must(
      a.read(random_tokens(kReadings[1].n_context, model.info().n_vocab, 300), make_press("adacurdkv", 0.7)));
  must(decode_together(executor, both, tokens));
  EXPECT_EQ(logits_of(a), first);
  EXPECT_EQ(a.n_tokens(), 301);
  EXPECT_EQ(b.n_tokens(), 172);
}

TEST(Step, RefusesWhatMakesNoSense) {
  const Model model = make_model(GGML_TYPE_Q8_0), other = make_model(GGML_TYPE_F32);
  Executor executor = must(Executor::create(model, {}));
  OneSequence a = make_session(model, kReadings[2]), b = make_session(other, kReadings[2]),
              f32 = make_session(model, kReadings[2], CacheType::f32);
  const std::vector<Token> one = {5}, unknown = {1 << 20}, none;
  const auto refused = [&](std::vector<Span> spans) {
    const auto r = executor.step(spans);
    return !r && r.error().code == ErrorCode::bad_argument;
  };
  EXPECT_TRUE(refused({}));
  EXPECT_TRUE(refused({{&a.sequence, one}, {&a.sequence, one}}));
  EXPECT_TRUE(refused({{&b.sequence, one}}));
  EXPECT_TRUE(refused({{&f32.sequence, one}}));
  EXPECT_TRUE(refused({{&a.sequence, none}}));
  EXPECT_TRUE(refused({{&a.sequence, unknown}}));
  EXPECT_EQ(a.n_tokens(), 170);
  EXPECT_FALSE(Executor::create(model, {.n_threads = 0}));
}

// A text of its own for each of n sequences, and how far it is.
struct Member {
  Sequence sequence;
  std::vector<Token> tokens;
  size_t n_done = 0;
};

// Sequences join, leave and ask questions at random; each has the logits it has alone, bit by bit.
void expect_same_in_any_company(const Model& model) {
  ExecutorParams params;
  params.n_threads = 2;
  params.in_company = true;
  params.n_batch = 64;  // several questions find room in it, or not
  Executor alone = must(Executor::create(model, params)), together = must(Executor::create(model, params));
  Sequence shared = together.sequence();
  must(together.read(shared, random_tokens(300, model.info().n_vocab, 1), make_press("adacurdkv", 0.7)));
  for (const uint32_t seed : {1u, 2u, 3u}) {
    std::mt19937 rng(seed);
    const auto below = [&](size_t n) { return rng() % n; };
    std::vector<Member> members;
    for (int step = 0; step < 40; ++step) {
      if (members.size() < 16 && (members.empty() || below(2) == 0)) {
        Sequence from =
            below(3) > 0 || members.empty() ? shared.fork() : members[below(members.size())].sequence.fork();
        members.push_back(
            {std::move(from), random_tokens(60, model.info().n_vocab, static_cast<uint32_t>(rng()))});
      }
      if (members.size() > 1 && below(6) == 0)
        members.erase(members.begin() + static_cast<long>(below(members.size())));
      std::vector<Span> spans;
      std::vector<Sequence> expected;
      for (Member& m : members) {
        if (below(4) == 0) continue;
        const size_t n = std::min(m.tokens.size() - m.n_done, below(4) == 0 ? 2 + below(30) : size_t{1});
        if (n == 0) continue;
        const auto next = std::span(m.tokens).subspan(m.n_done, n);
        spans.push_back({&m.sequence, next});
        m.n_done += n;
        expected.push_back(m.sequence.fork());
        must(alone.extend(expected.back(), next));
      }
      if (spans.empty()) continue;
      must(together.step(spans));
      for (size_t i = 0; i < spans.size(); ++i) {
        ASSERT_EQ(largest_difference(spans[i].sequence->logits(), expected[i].logits()), 0)
            << seed << ", " << step;
        ASSERT_EQ(spans[i].sequence->n_tokens(), expected[i].n_tokens());
      }
    }
  }
}

TEST(Step, AnyCompanyGivesTheSameBits) {
  expect_same_in_any_company(make_model(GGML_TYPE_Q8_0));
  expect_same_in_any_company(make_unequal());
}

// What the latest queries decide is the same after questions asked together and one by one.
TEST(Step, QuestionsTogetherKeepTheirQueries) {
  const Model model = make_model(GGML_TYPE_Q8_0);
  Executor executor = must(Executor::create(model, {}));
  Sequence a = executor.sequence();
  ReadOptions options;
  options.n_recent_queries = 64;
  must(executor.read(a, random_tokens(200, model.info().n_vocab, 1), Press(), options));
  Sequence b = a.fork(), a_alone = a.fork(), b_alone = a.fork();
  const auto first = random_tokens(20, model.info().n_vocab, 2),
             second = random_tokens(12, model.info().n_vocab, 3);
  const Span spans[] = {{&a, first}, {&b, second}};
  must(executor.step(spans));
  must(executor.extend(a_alone, first));
  must(executor.extend(b_alone, second));
  const Token next = 7;
  for (Sequence* s : {&a, &b, &a_alone, &b_alone}) {
    must(executor.compress(*s, make_press("snapkv", 0.5), 60));
    must(executor.extend(*s, {&next, 1}));
  }
  EXPECT_EQ(largest_difference(a.logits(), a_alone.logits()), 0);
  EXPECT_EQ(largest_difference(b.logits(), b_alone.logits()), 0);
  EXPECT_NE(largest_difference(a.logits(), b.logits()), 0);
}

TEST(Step, OneOfSeveralQuestionsIsStopped) {
  const Model model = make_model(GGML_TYPE_Q8_0);
  Executor executor = must(Executor::create(model, {}));
  Sequence a = executor.sequence();
  must(executor.read(a, random_tokens(100, model.info().n_vocab, 1), Press()));
  Sequence b = a.fork(), c = a.fork(), alone = a.fork();
  const auto question = random_tokens(20, model.info().n_vocab, 2);
  const Token token = 3;
  const std::atomic<bool> stop = true;
  const Span spans[] = {{.sequence = &a, .tokens = question, .stop = &stop},
                        {.sequence = &b, .tokens = question, .stop = &stop},
                        {&c, question}};
  must(executor.step(spans));
  must(executor.extend(alone, question));
  EXPECT_EQ(a.n_tokens(), 100);
  EXPECT_EQ(b.n_tokens(), 100);
  EXPECT_EQ(c.n_tokens(), 120);
  EXPECT_EQ(largest_difference(c.logits(), alone.logits()), 0);
  const Span more[] = {{.sequence = &a, .tokens = question, .stop = &stop}, {&c, {&token, 1}}};
  must(executor.step(more));
  EXPECT_EQ(a.n_tokens(), 100);
  EXPECT_EQ(c.n_tokens(), 121);
}

TEST(Step, AFailureInOneSequenceChangesNone) {
  const Model model = make_model(GGML_TYPE_Q8_0);
  ExecutorParams params;
  params.n_ctx = 200;
  Executor executor = must(Executor::create(model, params));
  Sequence a = executor.sequence();
  must(executor.read(a, random_tokens(100, model.info().n_vocab, 1), make_press("knorm", 0.5)));
  Sequence b = a.fork();
  const auto question = random_tokens(90, model.info().n_vocab, 2),
             more = random_tokens(101, model.info().n_vocab, 3);
  const std::vector<float> before(a.logits().begin(), a.logits().end());
  const Span spans[] = {{&a, question}, {&b, more}};
  const auto r = executor.step(spans);
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, ErrorCode::bad_input);
  EXPECT_EQ(a.n_tokens(), 100);
  EXPECT_EQ(largest_difference(a.logits(), before), 0);
}

// Sixteen forks of one context hold one block and sixteen tails.
TEST(Sequence, ForksShareTheirContextsMemory) {
  const Model model = make_model(GGML_TYPE_Q8_0);
  Executor executor = must(Executor::create(model, {}));
  Sequence context = executor.sequence();
  must(executor.read(context, random_tokens(700, model.info().n_vocab, 1), Press()));
  const size_t block = context.kv_bytes();
  std::vector<Sequence> forks;
  for (int i = 0; i < 16; ++i) {
    forks.push_back(context.fork());
    EXPECT_EQ(forks.back().kv_bytes(), block) << "which all report";
    must(executor.extend(forks.back(), random_tokens(5, model.info().n_vocab, 2)));
    const size_t first_step = 64 * executor.kv_bytes_full(1);
    EXPECT_LE(forks.back().kv_bytes(), block + first_step + 64) << "a question's first tokens";
  }
  EXPECT_EQ(context.kv_bytes(), block);
  EXPECT_EQ(context.n_tokens(), 700);
}

}  // namespace
}  // namespace curdkv::testing
