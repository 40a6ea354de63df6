// What a reading can be told beside press and ratio: questions that take part, protected tokens, several
// presses at once, and KVzip's second reading.
#include <gguf.h>
#include <gtest/gtest.h>

#include "base/format.h"
#include "curdkv/engine.h"
#include "engine/determinism_checks.h"
#include "engine/limits.h"
#include "support/expect_error.h"
#include "support/tiny_model.h"

namespace curdkv::testing {
namespace {

const std::string& path() {
  static const std::string written = write_tiny_model(three_layers(), temp_path("read-options"));
  return written;
}

const Model& tiny() {
  static const Model model = must(Model::load(path()));
  return model;
}

// Layers that differ in their heads.
const Model& unequal() {
  static const Model model =
      must(Model::load(write_tiny_model(unequal_layers("llama"), temp_path("read-options-unequal"))));
  return model;
}

std::vector<Token> tokens(int64_t n, uint32_t seed = 1) {
  return random_tokens(n, tiny().info().n_vocab, seed);
}

OneSequence make_session(CacheType type = CacheType::f16) {
  ExecutorParams params;
  params.n_threads = 2;
  params.type_k = params.type_v = type;
  return must(OneSequence::create(tiny(), params));
}

TEST(QueryAware, TheQuestionIsScoredWithAndKept) {
  OneSequence session = make_session();
  std::vector<Token> all = tokens(400);
  const auto question = tokens(30, 2);
  all.insert(all.end(), question.begin(), question.end());
  ReadOptions options;
  options.n_question = 30;
  for (const char* name : {"snapkv:window=16", "adasnapkv", "chunkkv", "pyramidkv", "curdkv"}) {
    const Press press = make_press(name, 0.8);
    session.clear();
    must(session.read(all, press, options));
    for (const auto& layer : session.kept_tokens()) {
      for (const auto& head : layer) {
        ASSERT_GE(head.size(), 31u);
        for (int32_t i = 0; i < 30; ++i)
          EXPECT_EQ(head[head.size() - 30 + static_cast<size_t>(i)], 400 + i) << name;
      }
    }
  }
  const Press press = make_press("snapkv:window=16", 0.8);
  session.clear();
  must(session.read(all, press, options));
  const auto aware = session.kept_tokens();
  EXPECT_EQ(aware[0][0].size(), 79u + 30u) << "int(400 * (1 - 0.8)) of the context, and the question";
  session.clear();
  must(session.read(tokens(400), press));
  std::vector<int32_t> of_context = aware[2][0];
  of_context.resize(79);
  EXPECT_NE(of_context, session.kept_tokens()[2][0]) << "other queries, other tokens";

  session.clear();
  options.n_question = 430;
  const auto r = session.read(all, press, options);
  ASSERT_FALSE(r);
  EXPECT_NE(r.error().message.find("at least one token of context"), std::string::npos);
}

TEST(ProtectLast, IsPartOfTheBudget) {
  OneSequence session = make_session();
  for (const char* name : {"knorm", "adacurdkv", "chunkcurdkv"}) {
    session.clear();
    must(session.read(tokens(400), budget_press(name, 100, 60)));
    size_t total = 0;
    const auto kept = session.kept_tokens();
    for (const auto& head : kept[1]) {
      ASSERT_GE(head.size(), 60u) << name;
      for (int32_t i = 0; i < 60; ++i)
        EXPECT_EQ(head[head.size() - 60 + static_cast<size_t>(i)], 340 + i) << name;
      total += head.size();
    }
    EXPECT_NEAR(static_cast<double>(total), 300, name == std::string("chunkcurdkv") ? 120 : 0) << name;
  }
  session.clear();
  must(session.read(tokens(50), budget_press("knorm", 10, 60)));  // more than there are
  EXPECT_EQ(session.longest_head(), 50);
}

TEST(Together, EverySessionIsAsIfAlone) {
  std::vector<std::string> names = {"none", "adacurdkv", "snapkv", "h2o", "mixkv"};
  std::vector<OneSequence> sessions;
  for (size_t i = 0; i < names.size(); ++i) sessions.push_back(make_session());
  std::vector<ReadTarget> targets;
  for (size_t i = 0; i < names.size(); ++i)
    targets.push_back({&sessions[i].sequence, make_press(names[i], 0.6)});
  const auto reports = must(sessions[0].executor.read_together(targets, tokens(500)));
  ASSERT_EQ(reports.size(), names.size());
  for (size_t i = 0; i < names.size(); ++i) {
    OneSequence alone = make_session();
    const ReadReport report = must(alone.read(tokens(500), targets[i].press));
    EXPECT_EQ(report.n_tokens, reports[i].n_tokens);
    EXPECT_EQ(alone.kept_tokens(), sessions[i].kept_tokens()) << names[i];
    EXPECT_EQ(largest_difference(alone.logits(), sessions[i].logits()), 0);
    must(alone.extend(tokens(20, 2)));
    must(sessions[i].extend(tokens(20, 2)));
    EXPECT_EQ(largest_difference(alone.logits(), sessions[i].logits()), 0) << names[i];
  }
  OneSequence f32 = make_session(CacheType::f32), f16 = make_session();
  const ReadTarget mixed[] = {{&f16.sequence, Press()}, {&f32.sequence, Press()}};
  const auto r = f16.executor.read_together(mixed, tokens(20));
  ASSERT_FALSE(r);
  EXPECT_NE(r.error().message.find("another model or cache type"), std::string::npos);
}

// Against tests/reference/kvzip.py, which runs both readings in numpy on a model of its own.
TEST(KvZip, KeepsWhatTheReferenceKeeps) {
  const std::string folder = CURDKV_TEST_DATA;
  const Model model = must(Model::load(folder + "/kvzip_model.gguf"));
  ggml_context* ctx = nullptr;
  gguf_context* file = gguf_init_from_file((folder + "/kvzip_reference.gguf").c_str(), {false, &ctx});
  ASSERT_NE(file, nullptr);
  const auto ints = [&](const std::string& name) {
    const ggml_tensor* t = ggml_get_tensor(ctx, name.c_str());
    const auto* data = static_cast<const int32_t*>(t->data);
    return std::vector<int32_t>(data, data + ggml_nelements(t));
  };
  const std::vector<Token> context = ints("context");
  std::vector<Repeat> repeats;
  for (int i = 0; i < 3; ++i) {
    const auto stretch = ints("repeat" + std::to_string(i) + ".stretch");
    repeats.push_back({stretch[0], stretch[1], ints("repeat" + std::to_string(i) + ".tokens")});
  }
  ExecutorParams params;
  params.repeats = [&](std::span<const Token>) { return Result(repeats); };
  params.n_threads = 2;
  params.n_batch = 64;
  params.type_k = params.type_v = CacheType::f32;
  OneSequence session = must(OneSequence::create(model, params));
  for (const auto& [press, masks] : {std::pair{"kvzip", "kept"}, {"kvzipplus", "plus"}}) {
    int n_compared = 0;
    for (const int percent : {30, 50, 70, 90}) {
      session.clear();
      must(session.read(context, make_press(press, percent / 100.0)));
      const auto kept = session.kept_tokens();
      for (size_t il = 0; il < 2; ++il) {
        const std::string name = format("%s.r%d.%zu", masks, percent, il);
        if (ggml_get_tensor(ctx, name.c_str()) == nullptr) continue;  // a tie at the border
        std::vector<int32_t> mask(context.size() * 2, 0);
        for (size_t h = 0; h < 2; ++h) {
          for (int32_t t : kept[il][h]) mask[h * context.size() + static_cast<size_t>(t)] = 1;
        }
        EXPECT_EQ(mask, ints(name)) << name;
        ++n_compared;
      }
    }
    EXPECT_GE(n_compared, 6) << press;
  }
  gguf_free(file);
  ggml_free(ctx);

  repeats.clear();
  session.clear();
  expect_refused(session.read(context, make_press("kvzip", 0.5)), "given nothing to repeat");
  OneSequence without = must(OneSequence::create(model, {}));
  expect_refused(without.read(context, make_press("kvzip", 0.5)), "ExecutorParams::repeats");
}

TEST(KvZip, SameBitsForAnyThreadsAndChunks) {
  const Engine engine = must(Engine::open(path()));
  const std::vector<Token> context = tokens(500);
  for (const Model* model : {&tiny(), &unequal()}) {
    for (const char* press : {"kvzip", "kvzipplus"}) {
      std::optional<Outcome> first;
      for (const auto& [n_threads, n_batch] : {std::pair{1, 512}, {2, 64}, {2, 192}}) {
        ExecutorParams params;
        params.n_threads = n_threads;
        params.n_batch = n_batch;
        params.repeats = [&](std::span<const Token> text) { return engine.prompt().repeats(text); };
        OneSequence session = must(OneSequence::create(*model, params));
        const Outcome o = answer(session, context, tokens(20, 2), make_press(press, 0.6));
        if (!first) first = o;
        EXPECT_EQ(o, *first) << press << ", " << n_threads << " threads, chunks of " << n_batch;
      }
    }
  }
}

}  // namespace
}  // namespace curdkv::testing
