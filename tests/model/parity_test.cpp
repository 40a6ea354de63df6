// Our graph against libllama's on tiny random models of every architecture: the same logits.
#include <gtest/gtest.h>

#include <cmath>

#include "compute/bf16_tiles.h"
#include "measure/llama_cpp.h"
#include "model/weights.h"
#include "support/one_sequence.h"
#include "support/stages.h"
#include "support/tiny_model.h"

namespace curdkv::testing {
namespace {

using measure::LlamaCpp;

struct Case {
  const char* name;
  TinyModel model;
};

std::vector<Case> cases() {
  std::vector<Case> list = {{"llama", {}}, {"qwen2", {}}, {"qwen3", {}}};
  list[1].model.architecture = "qwen2";
  list[2].model.architecture = "qwen3";
  list[2].model.d_head = 32;  // wider than n_embd / n_head
  list[2].model.tied = false;
  Case c = {"llama_untied", {}};
  c.model.tied = false;
  list.push_back(c);
  c = {"llama_rope_freqs", {}};
  c.model.rope_freqs = true;
  list.push_back(c);
  c = {"llama_linear_rope", {}};
  c.model.rope_scaling = "linear";
  list.push_back(c);
  c = {"qwen2_yarn", {}};
  c.model.architecture = "qwen2";
  c.model.rope_scaling = "yarn";
  list.push_back(c);
  c = {"llama_no_gqa", {}};
  c.model.n_head_kv = 4;
  list.push_back(c);
  c = {"llama_mqa", {}};
  c.model.n_head_kv = 1;
  list.push_back(c);
  list.push_back({"deci", {}});
  list.back().model.architecture = "deci";
  list.push_back({"unequal_layers", unequal_layers()});
  return list;
}

class Parity : public ::testing::TestWithParam<Case> {};

struct Expected {
  std::vector<Token> tokens;
  std::vector<std::vector<float>> logits;  // libllama's, behind each
};

Expected expected_of(const std::string& path, ggml_type cache) {
  auto oracle = LlamaCpp::load(path, 2, 1024, cache);
  if (oracle == nullptr) return {};
  Expected e = {random_tokens(300, oracle->n_vocab()), {}};
  e.logits = oracle->extend(e.tokens, true);
  return e;
}

double squared_difference(std::span<const float> a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < b.size(); ++i) sum += std::pow(static_cast<double>(a[i]) - b[i], 2);
  return sum;
}

struct Compared {
  Stages largest;      // difference
  double squares = 0;  // of all differences
};

// Prefill, a question in one go and single tokens.
Compared compare(const std::string& path, const Expected& expected, CacheType cache, PrefillKernel kernel) {
  const Model model = must(Model::load(path));
  ExecutorParams params;
  params.n_threads = 2;
  params.n_batch = 128;
  params.type_k = params.type_v = cache;
  params.prefill_kernel = kernel;
  OneSequence session = must(OneSequence::create(model, params));
  Compared c;
  const auto difference = [&](std::span<const float> got, const std::vector<float>& wanted) {
    c.squares += squared_difference(got, wanted);
    return largest_difference(got, wanted);
  };
  c.largest = compare_stages(session, expected.tokens, expected.logits, difference);
  return c;
}

std::string write_case(const Case& c) {
  return write_tiny_model(c.model, temp_path(std::string(c.name) + ".gguf"));
}

// A prefill has libllama's very bits. Behind it our own attention adds up in another order, and what then
// differs by F32's rounding may, rounded to F16, differ by F16's: a single such bit can be 5e-3 of a logit.
// As few are, all logits together differ by little of what F16's rounding makes of libllama's own.
TEST_P(Parity, LogitsEqualLibllamas) {
  const std::string path = write_case(GetParam());
  const Expected expected = expected_of(path, GGML_TYPE_F16), exact = expected_of(path, GGML_TYPE_F32);
  ASSERT_EQ(expected.logits.size(), 300);
  ASSERT_EQ(exact.logits.size(), 300);
  double by_rounding = 0;
  for (size_t t = 200; t < 300; ++t) by_rounding += squared_difference(expected.logits[t], exact.logits[t]);
  const Compared c = compare(path, expected, CacheType::f16, PrefillKernel::ggml);
  EXPECT_EQ(c.largest.prefill, 0);
  EXPECT_LE(std::sqrt(c.squares), 0.1 * std::sqrt(by_rounding));
}

void expect_libllamas_logits(const Case& model, PrefillKernel kernel) {
  const std::string path = write_case(model);
  const Expected expected = expected_of(path, GGML_TYPE_F32);
  ASSERT_EQ(expected.logits.size(), 300);
  const Stages worst = compare(path, expected, CacheType::f32, kernel).largest;
  EXPECT_LE(worst.prefill, 1e-4);
  EXPECT_LE(worst.extend, 1e-4);
  EXPECT_LE(worst.decode, 1e-4);
}

TEST_P(Parity, LogitsEqualLibllamasWithF32Cache) {
  expect_libllamas_logits(GetParam(), PrefillKernel::ggml);
}

// Our own attention, as products with F32 weights are ggml's; it adds up in another order.
TEST_P(Parity, OwnPrefillAttentionToo) {
  expect_libllamas_logits(GetParam(), PrefillKernel::automatic);
}

INSTANTIATE_TEST_SUITE_P(Architectures, Parity, ::testing::ValuesIn(cases()),
                         [](const auto& i) { return std::string(i.param.name); });

// libllama takes layers that differ for deci alone; here they make no difference.
TEST(ParityOfLayers, ALlamaWhoseLayersDifferIsADeci) {
  std::vector<std::vector<float>> logits;
  for (const char* architecture : {"llama", "deci"}) {
    const Model model =
        must(Model::load(write_tiny_model(unequal_layers(architecture), temp_path("differ"))));
    OneSequence session = must(OneSequence::create(model, {}));
    must(session.read(random_tokens(50, 256), Press()));
    logits.emplace_back(session.logits().begin(), session.logits().end());
  }
  EXPECT_EQ(logits[0], logits[1]);
}

// Keys of other architectures: libllama reads none of them for these, and neither do we.
TEST(ParityOfKeys, WhatLibllamaIgnoresChangesNothing) {
  const auto tokens = random_tokens(40, 256);
  const auto theirs = [&](const std::string& path) {
    return LlamaCpp::load(path, 1, 256, GGML_TYPE_F32)->extend(tokens, false)[0];
  };
  const auto ours = [&](const std::string& path) {
    const Model model = must(Model::load(path));
    OneSequence session = must(OneSequence::create(model, {}));
    must(session.read(tokens, Press()));
    return std::vector<float>(session.logits().begin(), session.logits().end());
  };
  for (const char* architecture : {"llama", "qwen2", "qwen3"}) {
    TinyModel model;
    model.architecture = architecture;
    model.rope_scaling = "yarn";
    const std::string plain = write_tiny_model(model, temp_path("plain.gguf"));
    for (const char* key : {"attention.scale", "attention.sliding_window", "rope.scaling.yarn_beta_fast",
                            "rope.scaling.yarn_ext_factor", "rope.scaling.yarn_log_multiplier"}) {
      SCOPED_TRACE(std::string(architecture) + "." + key);
      model.extra_key = std::string(architecture) + "." + key;
      model.extra_value = 2;
      const std::string keyed = write_tiny_model(model, temp_path("keyed.gguf"));
      EXPECT_EQ(theirs(keyed), theirs(plain));
      EXPECT_EQ(ours(keyed), ours(plain));
    }
  }
}

// Quantised activations round differently in different kernels, so the bar is what such rounding makes.
class WeightTypes : public ::testing::TestWithParam<ggml_type> {};

std::string write_model_of(ggml_type type) {
  TinyModel tiny;
  tiny.type = type;
  tiny.n_embd = 256;
  tiny.n_ff = 256;
  tiny.d_head = 64;
  return write_tiny_model(tiny, temp_path(std::string(ggml_type_name(type)) + ".gguf"));
}

OneSequence prefilled(const Model& model, PrefillKernel kernel, std::span<const Token> tokens,
                      const LogitsSink& sink, CacheType cache) {
  ExecutorParams params;
  params.n_threads = 2;
  params.type_k = params.type_v = cache;
  params.prefill_kernel = kernel;
  OneSequence session = must(OneSequence::create(model, params));
  ReadOptions options;
  options.logits = sink;
  must(session.read(tokens, Press(), options));
  return session;
}

TEST_P(WeightTypes, RunAndAgreeWithLibllama) {
  const std::string path = write_model_of(GetParam());
  auto oracle = LlamaCpp::load(path, 2, 512);
  ASSERT_NE(oracle, nullptr);
  const auto tokens = random_tokens(96, oracle->n_vocab());
  const auto expected = oracle->extend(tokens, false);
  const Model model = must(Model::load(path));
  const OneSequence session = prefilled(model, PrefillKernel::ggml, tokens, {}, CacheType::f16);
  EXPECT_LE(largest_difference(session.logits(), expected[0]), 0.15);
}

// Our own products round inputs to 8 bits as ggml's do, so they are as far from the same weights in F32 with
// inputs as they are. Some of ggml's round nothing (for ARM those of F16 weights), so caches are in F32:
// F16's rounding of keys and values, which attention of its own meets otherwise, would be all that is left.
TEST_P(WeightTypes, OwnKernelsAreAsExactAsLibllamas) {
  const std::string path = write_model_of(GetParam()), f32_path = temp_path("f32.gguf");
  llama_model_quantize_params to_f32 = llama_model_quantize_default_params();
  to_f32.ftype = LLAMA_FTYPE_ALL_F32;
  to_f32.allow_requantize = true;
  ASSERT_EQ(llama_model_quantize(path.c_str(), f32_path.c_str(), &to_f32), 0U);
  const auto tokens = random_tokens(200, 256);
  const auto exact = LlamaCpp::load(f32_path, 2, 512, GGML_TYPE_F32)->extend(tokens, true);
  const auto theirs = LlamaCpp::load(path, 2, 512, GGML_TYPE_F32)->extend(tokens, true);
  const Model model = must(Model::load(path));
  double their_error = 0;
  for (size_t t = 0; t < exact.size(); ++t) their_error += squared_difference(theirs[t], exact[t]);
  for (const PrefillKernel kernel :
       {PrefillKernel::automatic, PrefillKernel::int8, PrefillKernel::onednn, PrefillKernel::amx}) {
    ExecutorParams params;
    params.prefill_kernel = kernel;
    if (!OneSequence::create(model, params)) continue;  // not on this processor, or not in this build
    double our_error = 0;
    prefilled(
        model, kernel, tokens,
        [&](int64_t position, std::span<const float> logits) {
          our_error += squared_difference(logits, exact[static_cast<size_t>(position)]);
        },
        CacheType::f32);
    // Another order of adding up in F32 makes 3e-3 to 6e-3 of these 51,200 logits together.
    EXPECT_LE(std::sqrt(our_error), 1.25 * std::sqrt(their_error) + 1e-2) << static_cast<int>(kernel);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, WeightTypes,
                         ::testing::Values(GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q4_0, GGML_TYPE_Q4_1,
                                           GGML_TYPE_Q5_0, GGML_TYPE_Q8_0, GGML_TYPE_Q4_K, GGML_TYPE_Q6_K,
                                           GGML_TYPE_IQ4_NL),
                         [](const auto& i) { return std::string(ggml_type_name(i.param)); });

TEST(Weights, ProductsByAmxAreAnErrorWithoutIt) {
  if (amx_tiles() != nullptr) GTEST_SKIP() << "there is AMX";
  const Model model = must(Model::load(write_tiny_model({}, temp_path("amx.gguf"))));
  ExecutorParams params;
  params.prefill_kernel = PrefillKernel::amx;
  const auto executor = Executor::create(model, params);
  ASSERT_FALSE(executor);
  EXPECT_EQ(executor.error().code, ErrorCode::bad_argument);
  EXPECT_NE(executor.error().message.find("AMX"), std::string::npos) << executor.error().message;
}

TEST(Weights, AGpuThatIsNotThereIsAnError) {
  if (!gpu_devices().empty()) GTEST_SKIP() << "there is one";
  ModelParams params;
  params.n_gpu_layers = 1;
  const auto model = Model::load(write_tiny_model({}, temp_path("gpu.gguf")), params);
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().code, ErrorCode::bad_argument);
  EXPECT_NE(model.error().message.find("there is none"), std::string::npos) << model.error().message;
}

TEST(Weights, MappedAndCopiedGiveTheSame) {
  const std::string path = write_tiny_model({}, temp_path("mapped.gguf"));
  std::vector<std::vector<float>> logits;
  for (bool use_mmap : {true, false}) {
    ModelParams params;
    params.use_mmap = use_mmap;
    const Model model = must(Model::load(path, params));
    OneSequence session = must(OneSequence::create(model, {}));
    must(session.read(random_tokens(50, 256), Press()));
    logits.emplace_back(session.logits().begin(), session.logits().end());
  }
  EXPECT_EQ(logits[0], logits[1]);
}

}  // namespace
}  // namespace curdkv::testing
