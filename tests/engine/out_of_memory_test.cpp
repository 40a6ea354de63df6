// Every call of the library with an allocation that fails, one after the other: an error, the state that the
// headers promise, and the same results afterwards as if nothing had happened. CURDKV_EVERY_ALLOCATION=1
// tries each; else a sample.
#include <gtest/gtest.h>

#include <cstdlib>
#include <optional>

#include "curdkv/generate.h"
#include "curdkv/text.h"
#include "support/failing_allocations.h"
#include "support/one_sequence.h"
#include "support/tiny_model.h"

namespace curdkv::testing {
namespace {

std::string path_of(ggml_type type) {
  TinyModel shape;
  shape.type = type;
  return write_tiny_model(shape, temp_path(std::string("memory-") + ggml_type_name(type)));
}

const std::string& path() {
  static const std::string p = path_of(GGML_TYPE_Q8_0);
  return p;
}

const Model& model() {
  static const Model m = must(Model::load(path()));
  return m;
}

std::vector<Token> tokens(int64_t n, uint32_t seed = 3) {
  return random_tokens(n, model().info().n_vocab, seed);
}

using Logits = std::vector<float>;

Logits logits_of(const OneSequence& s) {
  return {s.logits().begin(), s.logits().end()};
}

// Calls `attempt`, which returns a Result, with allocation n failing, for n = 1, 2, ... until none does, or
// for a sample of those; then likewise with all failing from the n-th on. `check` is told the outcome when
// memory is back.
template <typename Attempt, typename Check>
void with_each_failing(const Attempt& attempt, const Check& check) {
  const bool each = std::getenv("CURDKV_EVERY_ALLOCATION") != nullptr;
  for (const bool all : {false, true}) {
    long n_tried = 1;
    for (long n = 1; n <= n_tried; n += each || n < 20 ? 1 : 1 + n / 8) {
      std::optional<decltype(attempt())> outcome;
      bool any_failed = false;
      {
        const FailingAllocations failing(n, all);
        outcome.emplace(attempt());
        any_failed = failing.failed();
        n_tried = std::max(n_tried, failing.n_made() + 1);
      }
      const bool failed = !*outcome;
      if (failed) {
        const Error& e = outcome->error();
        EXPECT_TRUE(any_failed) << e.message;
        EXPECT_EQ(e.code, ErrorCode::out_of_memory) << "allocation " << n << ": " << e.message;
        EXPECT_FALSE(e.message.empty());
      } else if (all) {
        EXPECT_FALSE(any_failed) << "allocation " << n << " was not missed";
      }
      check(*outcome);
      if (::testing::Test::HasFailure()) return;
    }
  }
}

struct Case {
  const char* press;
  PrefillKernel kernel = PrefillKernel::automatic;
  bool portable = false;
  int n_threads = 2;
};

ExecutorParams params_of(const Case& c) {
  ExecutorParams p;
  p.n_threads = c.n_threads;
  p.n_batch = 64;
  p.prefill_kernel = c.kernel;
  p.portable_attention = c.portable;
  p.repeats = [](std::span<const Token> context) -> Result<std::vector<Repeat>> {
    return std::vector<Repeat>{{0, 100, {context.begin(), context.begin() + 110}}};
  };
  return p;
}

TEST(OutOfMemory, LoadingAModel) {
  path();
  with_each_failing([] { return Model::load(path()); }, [](const auto&) {});
  with_each_failing([] { return Model::inspect(path()); }, [](const auto&) {});
}

TEST(OutOfMemory, MakingASession) {
  model();
  for (const Case& c : {Case{"none"}, Case{"none", PrefillKernel::onednn}}) {
    with_each_failing([&] { return OneSequence::create(model(), params_of(c)); }, [](const auto&) {});
  }
}

class Presses : public ::testing::TestWithParam<Case> {};

// After an error the session is empty, and takes the context.
TEST_P(Presses, Prefill) {
  const Case& c = GetParam();
  const Press press = make_press(c.press, 0.5);
  const auto context = tokens(200);
  OneSequence fresh = must(OneSequence::create(model(), params_of(c)));
  must(fresh.read(context, press));
  const Logits expected = logits_of(fresh);
  std::optional<OneSequence> session;
  const auto start = [&] { session = must(OneSequence::create(model(), params_of(c))); };
  start();
  with_each_failing([&] { return session->read(context, press); },
                    [&](const auto& outcome) {
                      const bool failed = !outcome;
                      if (failed) {
                        EXPECT_EQ(session->n_tokens(), 0);
                        EXPECT_TRUE(session->logits().empty());
                        must(session->read(context, press));
                      }
                      EXPECT_EQ(logits_of(*session), expected);
                      start();
                    });
}

// After an error the session can be taken back to a mark, and goes on.
TEST_P(Presses, Extend) {
  const Case& c = GetParam();
  const auto context = tokens(140), question = tokens(70, 5), one = tokens(1, 6);
  OneSequence session = must(OneSequence::create(model(), params_of(c)));
  const Press press = make_press(c.press, 0.5);
  must(session.read(context, press));
  const auto ask = [&]() -> Result<void> {
    if (auto done = session.extend(question); !done) return done;
    for (int i = 0; i < 3; ++i) {
      if (auto done = session.extend(one); !done) return done;
    }
    return {};
  };
  const Sequence::Mark mark = session.mark();
  must(ask());
  const Logits expected = logits_of(session);
  must(session.rewind(mark));
  with_each_failing(ask, [&](const auto& outcome) {
    const bool failed = !outcome;
    if (failed) {
      must(session.extend(one));  // whatever graph there was is not used again
      must(session.rewind(mark));
      must(ask());
    }
    EXPECT_EQ(logits_of(session), expected);
    must(session.rewind(mark));
  });
}

INSTANTIATE_TEST_SUITE_P(OutOfMemory, Presses,
                         ::testing::Values(Case{"none"}, Case{"adacurdkv"}, Case{"snapkv"}, Case{"kvzip"},
                                           Case{"compactor"}, Case{"none", PrefillKernel::ggml},
                                           Case{"mixkv", PrefillKernel::automatic, true}, Case{"recommended"},
                                           Case{"none:keys=q5:values=q4"},
                                           Case{"none", PrefillKernel::automatic, false, 1}));

// The cache grows layer by layer, and may stop in the middle.
TEST(OutOfMemory, GrowingTheCache) {
  ExecutorParams params;
  const auto context = tokens(100), many = tokens(600, 9), one = tokens(1, 6);
  std::optional<OneSequence> session;
  const auto start = [&] {
    session = must(OneSequence::create(model(), params));
    must(session->read(context, Press()));
    must(session->extend(one));
    must(session->extend(one));
  };
  start();
  must(session->extend(one));
  const Logits expected = logits_of(*session);
  start();
  with_each_failing([&] { return session->extend(many); },
                    [&](const auto& outcome) {
                      const bool failed = !outcome;
                      if (failed) {
                        must(session->extend(one));
                        EXPECT_EQ(logits_of(*session), expected);
                      }
                      start();
                    });
}

// After an error the session holds what it held.
TEST(OutOfMemory, Compress) {
  const auto context = tokens(140);
  const Press press = make_press("curdkv", 0.5);
  std::optional<OneSequence> session;
  const auto start = [&] {
    session = must(OneSequence::create(model(), params_of({"curdkv"})));
    must(session->read(context, Press()));
  };
  start();
  with_each_failing([&] { return session->compress(press, 60); },
                    [&](const auto& outcome) {
                      const bool failed = !outcome;
                      EXPECT_EQ(session->longest_head(), failed ? 140 : 60);
                      EXPECT_EQ(session->n_tokens(), 140);
                      if (failed) must(session->compress(press, 60));
                      must(session->extend(tokens(1)));
                      start();
                    });
}

TEST(OutOfMemory, Generate) {
  const Tokenizer tokenizer = must(Tokenizer::load(path()));
  GenerateOptions options;
  options.n_predict = 6;
  options.decode_budget = {make_press("streamingllm", 0.5), 40, 3};
  OneSequence session = must(OneSequence::create(model(), params_of({"none"})));
  const auto start = [&] {
    session.clear();
    must(session.read(tokens(41), Press()));
  };
  start();
  const std::string expected = must(generate(session.executor, session.sequence, tokenizer, options)).text;
  start();
  with_each_failing([&] { return generate(session.executor, session.sequence, tokenizer, options); },
                    [&](const auto& outcome) {
                      if (outcome) {
                        EXPECT_EQ(outcome->text, expected);
                      }
                      start();
                    });
}

// After an error no sequence has got its token.
TEST(OutOfMemory, DecodingInStep) {
  std::vector<OneSequence> sessions;
  std::vector<Sequence*> pointers;
  for (const int64_t n : {100, 70, 30}) {
    sessions.push_back(must(OneSequence::create(model(), {})));
    must(sessions.back().read(tokens(n), make_press("adacurdkv", n > 30 ? 0.5 : 0)));
  }
  for (OneSequence& s : sessions) pointers.push_back(&s.sequence);
  std::vector<Sequence::Mark> marks;
  for (OneSequence& s : sessions) marks.push_back(s.mark());
  ExecutorParams params;
  params.n_threads = 2;
  std::optional<Executor> executor(must(Executor::create(model(), params)));
  const auto next = tokens(3);
  must(decode_together(*executor, pointers, next));
  const Logits expected = logits_of(sessions[2]);
  const auto back = [&](bool anew) {
    for (size_t i = 0; i < sessions.size(); ++i) must(sessions[i].rewind(marks[i]));
    if (anew) executor.emplace(must(Executor::create(model(), params)));
  };
  for (const bool anew : {true, false}) {
    back(anew);
    with_each_failing([&] { return decode_together(*executor, pointers, next); },
                      [&](const auto& outcome) {
                        const bool failed = !outcome;
                        if (failed) {
                          EXPECT_EQ(sessions[0].n_tokens(), 100);
                          EXPECT_EQ(sessions[2].n_tokens(), 30);
                          must(decode_together(*executor, pointers, next));
                        }
                        EXPECT_EQ(logits_of(sessions[2]), expected);
                        back(anew);
                      });
  }
}

TEST(OutOfMemory, ChoosingAPress) {
  PressRequest request;
  request.name = "mixkv:first.ridge=2";
  with_each_failing([&] { return Press::make(request); }, [](const auto&) {});
}

}  // namespace
}  // namespace curdkv::testing
