// Everything about compression beyond a context and a ratio: caches bounded while generating, questions that
// take part, protected tokens, several presses from one reading, and KVzip's second reading.
#include <gguf.h>
#include <gtest/gtest.h>

#include <map>

#include "cache/cache_type.h"
#include "curdkv/engine.h"
#include "engine/determinism_checks.h"
#include "engine/limits.h"
#include "support/tiny_model.h"

namespace curdkv::testing {
namespace {

const Model& tiny() {
  static const Model model = must(Model::load(write_tiny_model(three_layers(), temp_path("bounded"))));
  return model;
}

std::vector<Token> tokens(int64_t n, uint32_t seed = 1) {
  return random_tokens(n, tiny().info().n_vocab, seed);
}

// Layers that differ in their heads.
const Model& unequal() {
  static const Model model =
      must(Model::load(write_tiny_model(unequal_layers("llama"), temp_path("bounded-unequal"))));
  return model;
}

OneSequence make_session(int64_t n_ctx = 0, CacheType type = CacheType::f16) {
  ExecutorParams params;
  params.n_threads = 2;
  params.n_ctx = n_ctx;
  params.type_k = params.type_v = type;
  return must(OneSequence::create(tiny(), params));
}

Press budget_press(const std::string& name, int64_t budget, int64_t protect_last = 0) {
  PressRequest request;
  request.name = name;
  request.budget = budget;
  request.protect_last = protect_last;
  return must(Press::make(request));
}

template <typename R>
void expect_refused(const R& r, const std::string& words) {
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, ErrorCode::bad_argument);
  EXPECT_NE(r.error().message.find(words), std::string::npos) << r.error().message;
}

// A press that looks at single keys keeps the same rows whether it compresses the context or the cache
// afterwards.
TEST(Compress, KeepsTheRowsThePressKeeps) {
  for (const CacheTypeName& named : cache_types()) {
    const CacheType type = named.type;
    SCOPED_TRACE(named.name);
    const Press press = budget_press("knorm", 100);
    OneSequence before = make_session(0, type), after = make_session(0, type);
    must(before.read(tokens(400), press));
    must(after.read(tokens(400), Press()));
    must(after.compress(press, 100));
    EXPECT_EQ(after.cache_lengths(), before.cache_lengths());
    EXPECT_EQ(after.kv_bytes_full(400),
              400u * static_cast<size_t>(tiny().info().n_layer * tiny().info().n_head_kv) * 2 *
                  ggml_row_size(to_ggml(type), tiny().info().d_head_k));
    EXPECT_EQ(after.n_tokens(), 400);
    EXPECT_EQ(after.next_position(), 400);
    must(before.extend(tokens(20, 2)));
    must(after.extend(tokens(20, 2)));
    // Keys are scored before they are quantised in one case, and after in the other, so rows may differ.
    if (type != CacheType::f16 && type != CacheType::f32) continue;
    EXPECT_EQ(largest_difference(before.logits(), after.logits()), 0);
  }
}

TEST(Compress, KeepsTheRowsThePressKeepsWhereLayersDiffer) {
  const Press press = budget_press("knorm", 100);
  OneSequence before = must(OneSequence::create(unequal(), {})),
              after = must(OneSequence::create(unequal(), {}));
  must(before.read(tokens(400), press));
  must(after.read(tokens(400), Press()));
  must(after.compress(press, 100));
  EXPECT_EQ(after.cache_lengths(), before.cache_lengths());
  EXPECT_EQ(after.kv_bytes(), before.kv_bytes());
  must(before.extend(tokens(20, 2)));
  must(after.extend(tokens(20, 2)));
  EXPECT_EQ(largest_difference(before.logits(), after.logits()), 0);
}

TEST(Compress, FreesMemoryAndVoidsMarks) {
  OneSequence session = make_session();
  must(session.read(tokens(1000), Press()));
  const Sequence::Mark mark = session.mark();
  const size_t full = session.kv_bytes();
  must(session.compress(make_press("curdkv", 0.5), 100));
  EXPECT_NEAR(static_cast<double>(session.kv_bytes()), 0.1 * static_cast<double>(full), 3000);
  expect_refused(session.rewind(mark), "compressed since");
  const Sequence::Mark later = session.mark();
  must(session.extend(tokens(10)));
  must(session.rewind(later));
  EXPECT_EQ(session.longest_head(), 100);
}

TEST(Compress, KeepsSinksAndProtectedRows) {
  // Rows are told apart by what their eviction does: all but the sinks and the last 20 of a head of 60 are
  // random.
  OneSequence kept = make_session(), all = make_session();
  must(kept.read(tokens(60), Press()));
  must(all.read(tokens(60), Press()));
  must(kept.compress(budget_press("random+uniform", 1, 59), 59));   // protects all but the first
  must(all.compress(make_press("streamingllm:sinks=0", 0.5), 59));  // evicts the first
  must(kept.extend(tokens(8, 3)));
  must(all.extend(tokens(8, 3)));
  EXPECT_LE(largest_difference(kept.logits(), all.logits()), 0.02);
}

// Without sinks every key is turned back alike, so nothing but the numbering may change.
TEST(Compress, StreamingRenumbersPositions) {
  const Press press = budget_press("streamingllm:sinks=0", 64);
  OneSequence fixed = make_session(0, CacheType::f32), renumbered = make_session(0, CacheType::f32);
  must(fixed.read(tokens(500), press));
  must(renumbered.read(tokens(500), Press()));
  must(renumbered.compress(press, 64));
  EXPECT_EQ(renumbered.next_position(), 64);
  EXPECT_EQ(renumbered.n_tokens(), 500);
  must(fixed.extend(tokens(20, 2)));
  must(renumbered.extend(tokens(20, 2)));
  EXPECT_EQ(fixed.next_position(), 520);
  EXPECT_EQ(renumbered.next_position(), 84);
  EXPECT_LE(largest_difference(fixed.logits(), renumbered.logits()), 2e-3);
}

// With sinks, the gap behind them closes. In a single layer keys and values depend on a token and its
// position alone, so what is left is what the sinks and the latest tokens make when they are read by
// themselves.
TEST(Compress, StreamingLeavesWhatAShorterContextMakes) {
  TinyModel shape;
  shape.n_layer = 1;
  const Model model = must(Model::load(write_tiny_model(shape, temp_path("one-layer"))));
  ExecutorParams params;
  params.type_k = params.type_v = CacheType::f32;
  const std::vector<Token> context = random_tokens(500, model.info().n_vocab, 1);
  std::vector<Token> shorter(context.begin(), context.begin() + 4);
  shorter.insert(shorter.end(), context.end() - 60, context.end());
  OneSequence expected = must(OneSequence::create(model, params));
  must(expected.read(shorter, Press()));
  must(expected.extend(random_tokens(20, model.info().n_vocab, 2)));
  // Whether the gap is made while reading or while generating.
  for (const Press& reading :
       {Press(), budget_press("streamingllm", 64), budget_press("streamingllm", 200)}) {
    OneSequence session = must(OneSequence::create(model, params));
    must(session.read(context, reading));
    must(session.compress(budget_press("streamingllm", 64), 64));
    EXPECT_EQ(session.next_position(), 64);
    must(session.extend(random_tokens(20, model.info().n_vocab, 2)));
    EXPECT_LE(largest_difference(session.logits(), expected.logits()), 1e-3);
  }
}

TEST(Compress, RefusesWhatItCannotDo) {
  OneSequence session = make_session();
  must(session.read(tokens(100), Press()));
  expect_refused(session.compress(Press(), 50), "'none'");
  expect_refused(session.compress(make_press("snapkv", 0.5), 50),
                 "'snapkv' looks at the latest 64 tokens' queries");
  expect_refused(session.compress(make_press("mixkv", 0.5), 50), "'mixkv' cannot bound");
  expect_refused(session.compress(make_press("kvzip", 0.5), 50), "'kvzip' cannot bound");
  expect_refused(session.compress(make_press("curdkv", 0.5), 4), "filled by the 4 sinks");
  EXPECT_EQ(session.longest_head(), 100) << "nothing was lost";
}

TEST(Compress, EveryPressCanThatTakesHeldRowsAndTheLatestQueries) {
  ReadOptions options;
  options.n_recent_queries = 128;
  int n_can = 0;
  for (const PressInfo& info : list_presses()) {
    if (info.scorer.empty() || info.allocation.empty()) continue;
    const Press press = make_press(info.name, 0.5);
    if (!press.check_decode_budget(50)) continue;
    ++n_can;
    OneSequence session = make_session();
    must(session.read(tokens(300), press, options));
    must(session.compress(press, 50));
    EXPECT_LE(session.longest_head(), 50) << info.name;
    must(session.extend(tokens(5, 2)));
  }
  EXPECT_GE(n_can, 19);
  OneSequence session = make_session();  // a second stage needs the output projection, which is there
  must(session.read(tokens(300), Press()));
  must(session.compress(make_press("criticalkv+uniform:base=cur", 0.5), 50));
  EXPECT_EQ(session.longest_head(), 50);
}

TEST(Compress, CancelledChangesNothing) {
  std::atomic<bool> stop{false};
  ExecutorParams params;
  params.stop = &stop;
  OneSequence session = must(OneSequence::create(tiny(), params));
  must(session.read(tokens(200), Press()));
  stop = true;
  const auto r = session.compress(make_press("curdkv", 0.5), 50);
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, ErrorCode::cancelled);
  EXPECT_EQ(session.n_tokens(), 200);
  EXPECT_EQ(session.longest_head(), 200);
  stop = false;
  must(session.compress(make_press("curdkv", 0.5), 50));
  EXPECT_EQ(session.longest_head(), 50);
}

const Tokenizer& tokenizer() {
  static const Tokenizer t = must(Tokenizer::load(temp_path("bounded")));
  return t;
}

// The tiny model's own ends of turns must not stop it.
Result<Generation> generate_long(OneSequence& session, const DecodeBudget& bound, int64_t n,
                                 const std::function<void()>& each_token) {
  GenerateOptions options;
  options.sampling.temperature = 2;
  options.decode_budget = bound;
  options.on_text = [&](const std::string&) { each_token(); };
  Generation all;
  while (static_cast<int64_t>(all.tokens.size()) < n) {
    options.n_predict = n - static_cast<int64_t>(all.tokens.size());
    ++options.sampling.seed;
    auto g = generate(session.executor, session.sequence, tokenizer(), options);
    if (!g) return g;
    all.tokens.insert(all.tokens.end(), g->tokens.begin(), g->tokens.end());
    const Token some = 5;
    if (auto r = session.extend({&some, 1}); !r) return r.error();
    all.tokens.push_back(some);
  }
  return all;
}

TEST(DecodeBudget, HoldsAtEveryStep) {
  for (const char* name : {"adacurdkv", "knorm", "streamingllm", "lagkv:lag=16"}) {
    OneSequence session = make_session();
    const Press press = make_press(name, 0.5);
    must(session.read(tokens(600), press));  // adaptive heads differ in length
    size_t n_steps = 0;
    const DecodeBudget bound = {press, 64, 32};
    size_t bytes = 0;
    must(generate_long(session, bound, 300, [&] {
      if (++n_steps < 3) return;
      EXPECT_LE(session.longest_head(), 64 + 32);
      if (n_steps == 40) bytes = session.kv_bytes();
      if (n_steps > 40) {
        EXPECT_EQ(session.kv_bytes(), bytes) << name << ", step " << n_steps;
      }
    }));
    EXPECT_GT(n_steps, 200u) << name;
  }
}

TEST(DecodeBudget, StreamingGeneratesPastTheModelsContext) {
  OneSequence session = make_session(256);
  const Press press = make_press("streamingllm", 0.5);
  must(session.read(tokens(100), press));
  must(generate_long(session, {press, 64, 32}, 1000, [] {}));
  EXPECT_GT(session.n_tokens(), 1000);
  EXPECT_LT(session.next_position(), 256);

  OneSequence other = make_session(256);
  must(other.read(tokens(100), press));
  const auto r = generate_long(other, {make_press("knorm", 0.5), 64, 32}, 1000, [] {});
  ASSERT_FALSE(r);
  EXPECT_NE(r.error().message.find("do not fit the context of 256"), std::string::npos) << r.error().message;
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
  OneSequence f32 = make_session(0, CacheType::f32), f16 = make_session();
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
  int n_compared = 0;
  for (const int percent : {30, 50, 70, 90}) {
    session.clear();
    must(session.read(context, make_press("kvzip", percent / 100.0)));
    const auto kept = session.kept_tokens();
    for (size_t il = 0; il < 2; ++il) {
      const std::string name = "kept.r" + std::to_string(percent) + "." + std::to_string(il);
      if (ggml_get_tensor(ctx, name.c_str()) == nullptr) continue;  // a tie at the border
      std::vector<int32_t> mask(context.size() * 2, 0);
      for (size_t h = 0; h < 2; ++h) {
        for (int32_t t : kept[il][h]) mask[h * context.size() + static_cast<size_t>(t)] = 1;
      }
      EXPECT_EQ(mask, ints(name)) << name;
      ++n_compared;
    }
  }
  EXPECT_GE(n_compared, 6);
  gguf_free(file);
  ggml_free(ctx);

  repeats.clear();
  session.clear();
  expect_refused(session.read(context, make_press("kvzip", 0.5)), "given nothing to repeat");
  OneSequence without = must(OneSequence::create(model, {}));
  expect_refused(without.read(context, make_press("kvzip", 0.5)), "ExecutorParams::repeats");
}

TEST(KvZip, SameBitsForAnyThreadsAndChunks) {
  const Engine engine = must(Engine::open(temp_path("bounded")));
  const std::vector<Token> context = tokens(500);
  for (const Model* model : {&tiny(), &unequal()}) {
    std::optional<Outcome> first;
    for (const auto& [n_threads, n_batch] : {std::pair{1, 512}, {2, 64}, {2, 192}}) {
      ExecutorParams params;
      params.n_threads = n_threads;
      params.n_batch = n_batch;
      params.repeats = [&](std::span<const Token> text) { return engine.prompt().repeats(text); };
      OneSequence session = must(OneSequence::create(*model, params));
      const Outcome o = answer(session, context, tokens(20, 2), make_press("kvzip", 0.6));
      if (!first) first = o;
      EXPECT_EQ(o, *first) << n_threads << " threads, chunks of " << n_batch;
    }
  }
}

}  // namespace
}  // namespace curdkv::testing
