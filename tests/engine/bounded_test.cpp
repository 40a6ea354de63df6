// Caches bounded while text is generated.
#include <gtest/gtest.h>

#include "cache/cache_type.h"
#include "curdkv/generate.h"
#include "engine/determinism_checks.h"
#include "engine/limits.h"
#include "support/expect_error.h"
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

}  // namespace
}  // namespace curdkv::testing
