// A session on tiny models: exactness, limits, cancelling, cache types.
#include <gtest/gtest.h>

#include "cache/cache_type.h"
#include "curdkv/text.h"
#include "engine/determinism_checks.h"
#include "engine/limits.h"
#include "support/expect_error.h"
#include "support/one_sequence.h"
#include "support/tiny_model.h"

namespace curdkv::testing {
namespace {

Model make_model(ggml_type type) {
  static int n_made = 0;  // a file that a model maps must stay as it is
  const std::string path = temp_path("session-" + std::to_string(n_made++) + ".gguf");
  return must(Model::load(write_tiny_model(three_layers(type), path)));
}

// Quantised, so that the slightest difference in rounding would show.
const Model& tiny() {
  static const Model model = make_model(GGML_TYPE_Q8_0);
  return model;
}

// Not quantised, for what is to be equal up to rounding.
const Model& tiny_f32() {
  static const Model model = make_model(GGML_TYPE_F32);
  return model;
}

Model make_unequal(ggml_type type) {
  TinyModel shape = unequal_layers("llama");
  shape.type = type;
  return must(
      Model::load(write_tiny_model(shape, temp_path(std::string("unequal-") + ggml_type_name(type)))));
}

// Layers that differ in their heads.
const Model& unequal() {
  static const Model model = make_unequal(GGML_TYPE_Q8_0);
  return model;
}

std::vector<Token> context(int64_t n = 700) {
  return random_tokens(n, tiny().info().n_vocab, 1);
}
std::vector<Token> question() {
  return random_tokens(70, tiny().info().n_vocab, 2);
}

OneSequence make_session(ExecutorParams params = {}, const Model& model = tiny()) {
  return must(OneSequence::create(model, params));
}

TEST(Sequence, SameBitsForAnyThreadsAndChunks) {
  for (const char* press : {"none", "curdkv", "adacurdkv", "adacurdkv:projection=true:local=false"}) {
    expect_same_for_threads_and_chunks(tiny(), context(), question(), make_press(press, 0.6),
                                       {{1, 512}, {2, 512}, {2, 64}, {1, 128}, {2, 1}, {2, 1000}});
    expect_same_for_threads_and_chunks(unequal(), context(), question(), make_press(press, 0.6),
                                       {{1, 512}, {2, 64}});
  }
}

// Questions whose last chunk is a single token, or fills no group of four.
TEST(Sequence, SameBitsWhereverAQuestionIsCut) {
  for (const ggml_type type : {GGML_TYPE_Q8_0, GGML_TYPE_Q4_0, GGML_TYPE_F16}) {
    const Model model = make_model(type);
    for (const int64_t n : {2, 65, 66, 131}) {
      expect_same_for_threads_and_chunks(model, context(100), random_tokens(n, model.info().n_vocab, 5),
                                         make_press("curdkv", 0.5), {{2, 512}, {2, 64}, {1, 128}});
    }
  }
}

// Every preset that needs no more than the context.
std::vector<std::string> presets() {
  std::vector<std::string> names;
  for (const PressInfo& p : list_presses()) {
    if (!p.scorer.empty() && !p.allocation.empty() && !make_press(p.name, 0.5).needs_repeats())
      names.push_back(p.name);
  }
  return names;
}

TEST(Sequence, EveryPressKeepsTheSameForAnyThreadsAndChunks) {
  ASSERT_GE(presets().size(), 22u);
  for (const std::string& press : presets()) {
    SCOPED_TRACE(press);
    expect_same_for_threads_and_chunks(tiny(), context(330), random_tokens(5, 100), make_press(press, 0.6),
                                       {{1, 512}, {2, 64}});
  }
}

TEST(Sequence, LayerwiseCompressionIsExact) {
  for (const std::string& press : presets()) {
    SCOPED_TRACE(press);
    for (const Model* model : {&tiny(), &unequal()})
      expect_layerwise_is_exact(*model, context(330), random_tokens(5, 100), make_press(press, 0.7));
  }
}

TEST(Sequence, RewindForgets) {
  for (const Model* model : {&tiny(), &unequal()})
    expect_rewind_forgets(*model, context(), question(), make_press("adacurdkv", 0.5));
}

TEST(Sequence, RatioZeroIsTheFullCache) {
  for (const Model* model : {&tiny(), &unequal()}) {
    OneSequence session = make_session({}, *model);
    const Outcome full = answer(session, context(), question(), Press());
    const Outcome zero = answer(session, context(), question(), make_press("adacurdkv", 0));
    EXPECT_EQ(zero.kept[0][0].size(), context().size());
    EXPECT_EQ(zero, full);
  }
}

TEST(Sequence, UnequalLayersHoldTheirOwnHeads) {
  OneSequence session = make_session({}, unequal());
  must(session.read(context(), make_press("curdkv", 0.8)));
  const auto kept = session.kept_tokens();
  size_t n_heads = 0;
  for (const auto& [il, n_head_kv] : {std::pair{0, 3u}, {1, 4u}, {2, 2u}}) {
    const auto& layer = kept[static_cast<size_t>(il)];
    ASSERT_EQ(layer.size(), n_head_kv);
    for (const auto& head : layer) EXPECT_EQ(head.size(), 139u);
    n_heads += n_head_kv;
  }
  EXPECT_EQ(session.kv_bytes_full(700), 700 * n_heads * 2 * 16 * sizeof(ggml_fp16_t));
  EXPECT_NEAR(static_cast<double>(session.kv_bytes()), static_cast<double>(session.kv_bytes_full(139)), 2000);
}

// What a compressed session computes is what a full one computes when it may not look at the evicted tokens.
TEST(Sequence, CompressionHoldsExactlyTheKeptRows) {
  OneSequence session = make_session();
  must(session.read(context(), make_press("adacurdkv", 0.8)));
  const auto& kept = session.kept_tokens();
  const auto lengths = session.cache_lengths();
  size_t total = 0, shortest = SIZE_MAX, longest = 0;
  for (size_t il = 0; il < kept.size(); ++il) {
    for (size_t h = 0; h < kept[il].size(); ++h) {
      EXPECT_EQ(lengths[il][h], static_cast<int64_t>(kept[il][h].size()));
      total += kept[il][h].size();
      shortest = std::min(shortest, kept[il][h].size());
      longest = std::max(longest, kept[il][h].size());
    }
  }
  EXPECT_EQ(total, 139u * 9)
      << "int(700 * (1 - 0.8)) tokens, in doubles as the reference, for each of 3 x 3 heads";
  EXPECT_LT(shortest, longest) << "adaptive heads differ";
  EXPECT_GE(shortest, 27u) << "the safeguard of 20 %";
  EXPECT_NEAR(static_cast<double>(session.kv_bytes()), 0.2 * static_cast<double>(session.kv_bytes_full(700)),
              2000);
}

TEST(Sequence, EveryCacheTypeAnswersNearlyAlike) {
  ExecutorParams f32;
  f32.type_k = f32.type_v = CacheType::f32;
  OneSequence reference = must(OneSequence::create(tiny_f32(), f32));
  const Outcome expected = answer(reference, context(), question(), Press());
  for (const auto& [k, v, bar] : {std::tuple{CacheType::f16, CacheType::f16, 0.02},
                                  {CacheType::bf16, CacheType::bf16, 0.2},
                                  {CacheType::q8_0, CacheType::q8_0, 0.4},
                                  {CacheType::q8_0, CacheType::f16, 0.4},
                                  {CacheType::q5_1, CacheType::q5_1, 4.0},
                                  {CacheType::q5_0, CacheType::q5_0, 4.0},
                                  {CacheType::q4_1, CacheType::q4_1, 6.0},
                                  {CacheType::q4_0, CacheType::q4_0, 6.0},
                                  {CacheType::iq4_nl, CacheType::iq4_nl, 6.0},
                                  {CacheType::q8_0, CacheType::q4_0, 3.0},
                                  {CacheType::f32, CacheType::f16, 0.02}}) {
    SCOPED_TRACE(::testing::Message() << ggml_type_name(to_ggml(k)) << " " << ggml_type_name(to_ggml(v)));
    ExecutorParams params;
    params.type_k = k;
    params.type_v = v;
    OneSequence session = must(OneSequence::create(tiny_f32(), params));
    const Outcome o = answer(session, context(), question(), Press());
    EXPECT_LE(largest_difference(o.question_logits, expected.question_logits), bar);
    EXPECT_GT(largest_difference(o.question_logits, expected.question_logits), 0) << "the type must matter";
    EXPECT_EQ(session.kv_bytes_full(700),
              700u * 9 * (ggml_row_size(to_ggml(k), 32) + ggml_row_size(to_ggml(v), 32)));
  }
}

TEST(Sequence, EveryCacheTypeKeepsItsPromises) {
  for (const CacheTypeName& t : cache_types()) {
    SCOPED_TRACE(t.name);
    ExecutorParams params;
    params.type_k = params.type_v = t.type;
    OneSequence one = must(OneSequence::create(tiny(), params));
    params.n_threads = 2;
    params.n_batch = 64;
    OneSequence two = must(OneSequence::create(tiny(), params));
    const Press press = make_press("adacurdkv", 0.6);
    EXPECT_EQ(answer(one, context(330), question(), press), answer(two, context(330), question(), press));
  }
}

// Both read the context by ggml's kernels and round no inputs of products, so that only the attention over
// ragged heads differs. ggml's has the queries, too, in BF16 where keys are, and in 8 bits where they are
// quantised.
TEST(Sequence, PortableAttentionAnswersAlike) {
  const auto expect_alike = [](const Model& model, CacheType type, double bar) {
    SCOPED_TRACE(ggml_type_name(to_ggml(type)));
    ExecutorParams params;
    params.n_threads = 2;
    params.type_k = params.type_v = type;
    params.prefill_kernel = PrefillKernel::ggml;
    OneSequence session = must(OneSequence::create(model, params));
    const Press press = make_press("adacurdkv", 0.6);
    const Outcome expected = answer(session, context(), question(), press);
    params.portable_attention = true;
    OneSequence portable = must(OneSequence::create(model, params));
    const Outcome o = answer(portable, context(), question(), press);
    EXPECT_EQ(o.kept, expected.kept);
    EXPECT_LE(largest_difference(o.question_logits, expected.question_logits), bar);
  };
  expect_alike(make_unequal(GGML_TYPE_F32), CacheType::f16, 0.01);
  for (const CacheTypeName& t : cache_types()) {
    double bar = 2;
    if (t.type == CacheType::f32) bar = 1e-3;
    if (t.type == CacheType::f16) bar = 0.01;
    if (t.type == CacheType::bf16) bar = 0.3;
    if (t.type == CacheType::q8_0) bar = 0.8;
    expect_alike(tiny_f32(), t.type, bar);
  }
}

TEST(Sequence, ShortContexts) {
  for (const int64_t n : {1, 3, 5, 6}) {
    OneSequence session = make_session();
    const Press press = make_press("adacurdkv", 0.9);
    const Outcome o = answer(session, context(n), question(), press);
    EXPECT_EQ(o.answer.size(), 16u);
    for (const auto& layer : o.kept) {
      for (const auto& head : layer) EXPECT_LE(static_cast<int64_t>(head.size()), n);
    }
  }
}

TEST(Sequence, ReportsItsPeak) {
  OneSequence session = make_session();
  const ReadReport report = must(session.read(context(), make_press("curdkv", 0.8)));
  const size_t one_layer = session.kv_bytes_full(704) / 3;  // padded to tiles of 64
  EXPECT_EQ(report.hidden_bytes, 704u * 96 * 4);
  EXPECT_LE(report.kv_bytes_peak, session.kv_bytes() + one_layer + report.hidden_bytes + 1024);
  EXPECT_GT(report.kv_bytes_peak, one_layer + report.hidden_bytes);
  ReadOptions late;
  late.compress_at_end = true;
  session.clear();
  const ReadReport full = must(session.read(context(), make_press("curdkv", 0.8), late));
  EXPECT_GT(full.kv_bytes_peak, 3 * one_layer);
}

TEST(Sequence, RefusesWhatDoesNotFit) {
  ExecutorParams params;
  params.n_threads = 0;
  expect_error(OneSequence::create(tiny(), params), ErrorCode::bad_argument, "threads");
  params = {};
  params.n_batch = 0;
  expect_error(OneSequence::create(tiny(), params), ErrorCode::bad_argument, "batch");
  params = {};
  params.n_ctx = 100;
  OneSequence session = make_session(params);
  expect_error(session.read({}, Press()), ErrorCode::bad_argument, "empty");
  expect_error(session.read(context(101), Press()), ErrorCode::bad_input,
               "101 tokens do not fit the context of 100");
  const std::vector<Token> strange = {1, 100000};
  expect_error(session.read(strange, Press()), ErrorCode::bad_argument, "token 100000");
  must(session.read(context(90), Press()));
  expect_error(session.read(context(11), Press()), ErrorCode::bad_input, "101 tokens do not fit");
  expect_error(session.extend(context(11)), ErrorCode::bad_input, "do not fit");
  must(session.extend(context(10)));
  EXPECT_EQ(session.n_tokens(), 100);
  const Sequence::Mark mark = session.mark();
  session.clear();
  expect_error(session.rewind(mark), ErrorCode::bad_argument, "mark");

  TinyModel odd;
  odd.d_head = 16;  // Q8_0 needs multiples of 32
  const Model model = must(Model::load(write_tiny_model(odd, temp_path("odd.gguf"))));
  params = {};
  params.type_k = CacheType::q8_0;
  expect_error(OneSequence::create(model, params), ErrorCode::bad_argument, "multiples of 32");
}

TEST(Sequence, CancelledPrefillLeavesItEmpty) {
  std::atomic<bool> stop{false};
  ExecutorParams params;
  params.stop = &stop;
  OneSequence session = make_session(params);
  ReadOptions options;
  int64_t seen = 0;
  options.progress = [&](int64_t done, int64_t total) {
    EXPECT_GT(done, seen);
    EXPECT_EQ(total, 3 * 700);
    seen = done;
    if (done > total / 2) stop = true;
  };
  expect_error(session.read(context(), make_press("curdkv", 0.5), options), ErrorCode::cancelled, "stopped");
  EXPECT_LT(seen, 3 * 700);
  EXPECT_EQ(session.n_tokens(), 0);
  EXPECT_EQ(session.kv_bytes(), 0u);
  stop = false;
  must(session.read(context(), make_press("curdkv", 0.5)));
  stop = true;
  expect_error(session.extend(question()), ErrorCode::cancelled, "stopped");
  stop = false;
  must(session.extend(question()));
}

TEST(Sequence, SeveralSessionsShareAModel) {
  OneSequence a = make_session(), b = make_session();
  const Press press = make_press("adacurdkv", 0.5);
  const Outcome first = answer(a, context(), question(), press);
  must(b.read(context(300), Press()));
  EXPECT_EQ(answer(a, context(), question(), press), first);
}

}  // namespace
}  // namespace curdkv::testing
