// What must hold on the default model.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <numeric>

#include "curdkv/context.h"
#include "engine/determinism_checks.h"
#include "measure/llama_cpp.h"
#include "support/agreement.h"
#include "support/golden.h"
#include "support/instruction_sets.h"
#include "support/one_sequence.h"
#include "support/real_model.h"
#include "support/score.h"
#include "support/tiny_model.h"

namespace curdkv::testing {
namespace {

using measure::LlamaCpp;

class RealModel : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    model_ = new Model(must(Model::load(real_model_path())));
    tokenizer_ = new Tokenizer(must(Tokenizer::load(real_model_path())));
  }
  static void TearDownTestSuite() {
    delete model_;
    delete tokenizer_;
  }
  static std::vector<Token> document(size_t n) { return document_tokens(*tokenizer_, n); }
  static std::vector<Token> question() {
    return must(must(Prompt::create(*tokenizer_)).question("What is this text about, and who wrote it?"));
  }
  static Model* model_;
  static Tokenizer* tokenizer_;
};
Model* RealModel::model_ = nullptr;
Tokenizer* RealModel::tokenizer_ = nullptr;

TEST_F(RealModel, LogitsAgreeWithLibllama) {
  const auto tokens = document(1024);
  auto oracle = LlamaCpp::load(real_model_path(), 2, 2048);
  ASSERT_NE(oracle, nullptr);
  const auto expected = oracle->extend(tokens, true);
  ASSERT_EQ(expected.size(), tokens.size());
  ExecutorParams params;
  params.n_threads = 2;
  params.prefill_kernel = PrefillKernel::ggml;
  OneSequence session = must(OneSequence::create(*model_, params));

  Agreement prefill;
  ReadOptions options;
  options.logits = [&](int64_t position, std::span<const float> logits) {
    prefill.add(expected[static_cast<size_t>(position)], logits);
  };
  must(session.read(tokens, Press(), options));
  prefill.print("prefill against libllama's batches:");
  EXPECT_LE(prefill.mean_kl(), 1e-4);
  EXPECT_GE(prefill.agreement(), 0.995);

  // Extending goes through other kernels than libllama's batches, and with 8-bit activations any difference
  // in rounding grows to their noise. libllama's own decoding differs from its batches by that noise: it is
  // the bar.
  constexpr size_t kDecoded = 256;
  Agreement theirs, ours;
  oracle->clear();
  for (size_t i = 0; i < kDecoded; ++i)
    theirs.add(expected[i], oracle->extend(std::span(tokens).subspan(i, 1), true)[0]);
  session.clear();
  must(
      session.extend(std::span(tokens).first(kDecoded), [&](int64_t position, std::span<const float> logits) {
        ours.add(expected[static_cast<size_t>(position)], logits);
      }));
  theirs.print("libllama's decoding against its own batches:");
  ours.print("extend against libllama's batches:");
  EXPECT_LE(ours.mean_kl(), 1.25 * theirs.mean_kl());

  // So do our own kernels' prefills.
  params.prefill_kernel = PrefillKernel::automatic;
  OneSequence fast = must(OneSequence::create(*model_, params));
  Agreement own;
  options.logits = [&](int64_t position, std::span<const float> logits) {
    own.add(expected[static_cast<size_t>(position)], logits);
  };
  must(fast.read(tokens, Press(), options));
  own.print("prefill by our own kernels against libllama's:");
  EXPECT_LE(own.mean_kl(), 1.25 * theirs.mean_kl());
}

TEST_F(RealModel, SameAnswerForAnyThreadsAndChunks) {
  expect_same_for_threads_and_chunks(*model_, document(1100), question(), make_press("adacurdkv", 0.6),
                                     {{2, 512}, {1, 512}, {2, 200}});
}

// Of the attention over the cache; a prefill's has tests of its own, and libllama's bits are asked for here.
// Each instruction set rounds in its own way, which 8-bit activations turn into their noise: libllama's own
// decoding is 0.003 from its batches. So the same answer is read with each, and the distributions of its
// tokens are compared.
TEST_F(RealModel, SameDistributionsWithEveryInstructionSet) {
  ExecutorParams params;
  params.n_threads = 2;
  params.prefill_kernel = PrefillKernel::ggml;
  OneSequence session = must(OneSequence::create(*model_, params));
  std::vector<Token> text = question();
  must(session.read(document(700), make_press("adacurdkv", 0.6)));
  must(session.extend(text));
  for (const Token t : greedy(session, 64)) text.push_back(t);

  std::vector<std::vector<float>> expected;
  std::vector<std::vector<std::vector<int32_t>>> kept;
  with_every_instruction_set([&] {
    session.clear();
    must(session.read(document(700), make_press("adacurdkv", 0.6)));
    if (kept.empty()) kept = session.kept_tokens();
    EXPECT_EQ(session.kept_tokens(), kept);
    std::vector<std::vector<float>> logits;
    must(session.extend(text,
                        [&](int64_t, std::span<const float> l) { logits.emplace_back(l.begin(), l.end()); }));
    ASSERT_EQ(logits.size(), text.size());
    if (expected.empty()) expected = logits;
    Agreement agreement;
    for (size_t i = 0; i < logits.size(); ++i) agreement.add(expected[i], logits[i]);
    agreement.print("an answer's distributions with another instruction set:");
    EXPECT_LE(agreement.mean_kl(), 0.01);
    EXPECT_GE(agreement.agreement(), 0.9);
  });
}

TEST_F(RealModel, LayerwiseCompressionIsExact) {
  expect_layerwise_is_exact(*model_, document(1000), question(), make_press("adacurdkv", 0.7));
}

// Of this model's 90 KV heads it is this one that nearly all lookups go through: without its rows, and no
// other head's, answers lose ten times as much as without any other's.
TEST_F(RealModel, ItsLookupHeadGetsItsRows) {
  constexpr size_t kLayer = 18, kHead = 2;
  const auto share = [&](const char* press) {
    OneSequence s = must(OneSequence::create(*model_, {.n_threads = 2}));
    must(s.read(document(1024), make_press(press, 0.95)));
    int64_t all = 0;
    for (const auto& layer : s.cache_lengths()) all = std::accumulate(layer.begin(), layer.end(), all);
    return static_cast<double>(s.cache_lengths()[kLayer][kHead]) / static_cast<double>(all);
  };
  const double with = share("recommended"), without = share("recommended:induction=false");
  std::printf("its share of the rows: %.3f, %.3f without induction\n", with, without);
  EXPECT_GT(with, 1.5 * without);
}

TEST_F(RealModel, RewindForgets) {
  expect_rewind_forgets(*model_, document(600), question(), make_press("curdkv", 0.5));
}

TEST_F(RealModel, ASavedContextHasTheSameBits) {
  const Engine engine = must(Engine::open(real_model_path()));
  Executor executor = must(engine.executor({.n_threads = 2}));
  const auto logits_behind = [&](Sequence sequence) {
    std::vector<float> all;
    const LogitsSink keep = [&](int64_t, std::span<const float> logits) {
      all.insert(all.end(), logits.begin(), logits.end());
    };
    must(executor.extend(sequence, question(), keep));
    for (int i = 0; i < 24; ++i) {
      const Token next = argmax(sequence.logits());
      must(executor.extend(sequence, {&next, 1}, keep));
    }
    return all;
  };
  const std::string path = temp_path("real.kvc");
  for (const char* name : {"adacurdkv", "recommended"}) {  // the latter's rows are packed
    Sequence read = executor.sequence();
    must(executor.read(read, document(2000), make_press(name, 0.8)));
    must(save_context(path, engine, read));
    const Sequence opened = must(must(open_context(path)).sequence(engine, executor));
    EXPECT_EQ(opened.kept_tokens(), read.kept_tokens());
    const std::vector<float> in_memory = logits_behind(read.fork()), from_file = logits_behind(opened.fork());
    ASSERT_EQ(in_memory.size(), from_file.size());
    EXPECT_EQ(std::memcmp(in_memory.data(), from_file.data(), in_memory.size() * sizeof(float)), 0);
  }
}

// CriticalKV weighs values by the output projection, which is the model's: kept tokens as kvpress has them.
TEST_F(RealModel, CriticalKvKeepsWhatKvpressKeeps) {
  ggml_context* ctx = nullptr;
  gguf_context* file = gguf_init_from_file(real_model_path().c_str(), {false, &ctx});
  ASSERT_NE(file, nullptr);
  for (const int il : {0, 14}) {
    const ggml_tensor* w =
        ggml_get_tensor(ctx, ("blk." + std::to_string(il) + ".attn_output.weight").c_str());
    std::vector<float> wo(static_cast<size_t>(ggml_nelements(w)));
    ggml_get_type_traits(w->type)->to_float(w->data, wo.data(), ggml_nelements(w));
    const Golden golden(il == 0 ? "layer00.gguf" : "layer14.gguf");
    const auto values = golden.data<float>("values");
    const TestLayer layer({203,
                           3,
                           3,
                           64,
                           GGML_TYPE_F32,
                           golden.data<float>("keys"),
                           values,
                           golden.data<float>("queries"),
                           {},
                           wo});
    const KeptTokens kept = layer.select(make_press("criticalkv+uniform:base=snapkv", 0.3));
    const auto expected = golden.data<int32_t>("kept.criticalkv_snapkv.r30");
    for (size_t h = 0; h < 3; ++h) {
      const auto ours = first_with_same_value(kept[h], std::span(values).subspan(h * 203 * 64), 64);
      EXPECT_EQ(ours, std::vector<int32_t>(expected.begin() + static_cast<std::ptrdiff_t>(h * 142),
                                           expected.begin() + static_cast<std::ptrdiff_t>((h + 1) * 142)))
          << "layer " << il << ", head " << h;
    }
  }
  gguf_free(file);
  ggml_free(ctx);
}

}  // namespace
}  // namespace curdkv::testing
