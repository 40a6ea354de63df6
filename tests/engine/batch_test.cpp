// Decoding several sequences in step: the same as each would get, whoever is beside it.
#include "curdkv/batch.h"

#include <gtest/gtest.h>

#include <cmath>

#include "support/must.h"
#include "support/tiny_model.h"

namespace curdkv::testing {
namespace {

Model make_model(ggml_type type) {
  TinyModel shape;
  shape.n_layer = 3;
  shape.n_head = 6;
  shape.n_head_kv = 3;
  shape.d_head = 32;
  shape.n_embd = 96;
  shape.type = type;
  return must(Model::load(write_tiny_model(shape, temp_path(std::string("batch-") + ggml_type_name(type)))));
}

struct Sequence {
  const char* press;
  double ratio;
  int64_t n_context;
};
// Presses of all kinds, more of them than a group of four, with contexts of their own.
const std::vector<Sequence> kSequences = {{"none", 0, 300},
                                          {"adacurdkv", 0.7, 300},
                                          {"knorm", 0.5, 170},
                                          {"streamingllm", 0.9, 500},
                                          {"snapkv", 0.5, 64}};

Session make_session(const Model& model, const Sequence& s, CacheType type = CacheType::f16) {
  SessionParams params;
  params.type_k = params.type_v = type;
  Session session = must(Session::create(model, params));
  must(session.prefill(random_tokens(s.n_context, model.info().n_vocab, static_cast<uint32_t>(s.n_context)),
                       make_press(s.press, s.ratio)));
  return session;
}

std::vector<float> logits_of(const Session& s) {
  return {s.logits().begin(), s.logits().end()};
}

// Logits after each of `n` steps for sequence `which`, decoded beside the others named.
std::vector<std::vector<float>> decode(const Model& model, const std::vector<size_t>& which, size_t of, int n,
                                       int n_threads, CacheType type = CacheType::f16) {
  SessionParams params;
  params.n_threads = n_threads;
  BatchDecoder batch = must(BatchDecoder::create(model, params));
  std::vector<Session> sessions;
  std::vector<Session*> pointers;
  for (const size_t i : which) sessions.push_back(make_session(model, kSequences[i], type));
  for (Session& s : sessions) pointers.push_back(&s);
  std::vector<std::vector<float>> out;
  for (int step = 0; step < n; ++step) {
    std::vector<Token> tokens;
    for (const size_t i : which) tokens.push_back(static_cast<Token>((7 * step + 13 * i) % 60));
    must(batch.decode(pointers, tokens));
    for (size_t k = 0; k < which.size(); ++k) {
      if (which[k] == of) out.push_back(logits_of(sessions[k]));
    }
  }
  return out;
}

TEST(Batch, SameBitsInAnyCompany) {
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

TEST(Batch, AgreesWithDecodingAlone) {
  const Model model = make_model(GGML_TYPE_F32);
  for (size_t of = 0; of < kSequences.size(); ++of) {
    const auto together = decode(model, {0, 1, 2, 3, 4}, of, 20, 2, CacheType::f32);
    Session session = make_session(model, kSequences[of], CacheType::f32);
    for (int step = 0; step < 20; ++step) {
      const Token token = static_cast<Token>((7 * step + 13 * static_cast<int>(of)) % 60);
      must(session.extend({&token, 1}));
      for (size_t i = 0; i < together[0].size(); ++i) {
        ASSERT_NEAR(session.logits()[i], together[static_cast<size_t>(step)][i], 1e-4) << of << " " << step;
      }
    }
    EXPECT_EQ(session.n_tokens(), kSequences[of].n_context + 20);
  }
}

// Members may come, go, be rewound and be prefilled anew between steps.
TEST(Batch, FollowsItsSessions) {
  const Model model = make_model(GGML_TYPE_Q8_0);
  BatchDecoder batch = must(BatchDecoder::create(model, {}));
  Session a = make_session(model, kSequences[1]), b = make_session(model, kSequences[2]);
  std::vector<Session*> both = {&a, &b}, one = {&a};
  const std::vector<Token> tokens = {5, 6};
  const auto mark = a.mark();
  must(batch.decode(both, tokens));
  const auto first = logits_of(a);
  must(a.rewind(mark));
  must(batch.decode(one, std::span(tokens).first(1)));
  EXPECT_EQ(logits_of(a), first);
  a.clear();
  must(a.prefill(random_tokens(kSequences[1].n_context, model.info().n_vocab, 300),
                 make_press("adacurdkv", 0.7)));
  must(batch.decode(both, tokens));
  EXPECT_EQ(logits_of(a), first);
  EXPECT_EQ(a.n_tokens(), 301);
  EXPECT_EQ(b.n_tokens(), 172);
}

TEST(Batch, RefusesWhatMakesNoSense) {
  const Model model = make_model(GGML_TYPE_Q8_0), other = make_model(GGML_TYPE_F32);
  BatchDecoder batch = must(BatchDecoder::create(model, {}));
  Session a = make_session(model, kSequences[2]), b = make_session(other, kSequences[2]);
  const std::vector<Token> one = {5}, two = {5, 6}, unknown = {1 << 20};
  std::vector<Session*> twice = {&a, &a}, strange = {&b}, just_a = {&a};
  EXPECT_EQ(batch.decode({}, {}).error().code, ErrorCode::bad_argument);
  EXPECT_EQ(batch.decode(twice, two).error().code, ErrorCode::bad_argument);
  EXPECT_EQ(batch.decode(strange, one).error().code, ErrorCode::bad_argument);
  EXPECT_EQ(batch.decode(just_a, two).error().code, ErrorCode::bad_argument);
  EXPECT_EQ(batch.decode(just_a, unknown).error().code, ErrorCode::bad_argument);
  EXPECT_EQ(a.n_tokens(), 170);
  EXPECT_FALSE(BatchDecoder::create(model, {.n_threads = 0}));
}

}  // namespace
}  // namespace curdkv::testing
