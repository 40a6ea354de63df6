// A session whose layers lie on a GPU, against libllama on the CPU and against the same session there. Needs
// a build of ggml with a backend for GPUs and a device, or an RPC server at the address CURDKV_TEST_RPC:
// without one every case is skipped and says so.
#include <gtest/gtest.h>

#include <cstdlib>

#include "engine/determinism_checks.h"
#include "measure/llama_cpp.h"
#include "model/weights.h"
#include "support/one_sequence.h"
#include "support/stages.h"
#include "support/tiny_model.h"

namespace curdkv::testing {
namespace {

using measure::LlamaCpp;

constexpr int kAllLayers = 99;
// Relative to the largest logit. GPUs multiply in F16 where the CPU has F32: libllama's logits on the two
// differ by 2e-3. Where inputs or rows are rounded to 8 bits they are rounded differently.
constexpr double kBar = 5e-3, kQuantisedBar = 3e-2;

std::vector<std::string> rpc_servers() {
  const char* server = std::getenv("CURDKV_TEST_RPC");
  return server == nullptr ? std::vector<std::string>() : std::vector<std::string>{server};
}

class Gpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (gpu_devices().empty() && rpc_servers().empty())
      GTEST_SKIP() << "no GPU that this build of ggml can use";
  }
};

TinyModel shape(const std::string& architecture) {
  TinyModel s;
  s.architecture = architecture;
  s.n_layer = 3;
  s.n_head = 6;
  s.n_head_kv = 3;
  s.d_head = 64;
  s.n_embd = 384;
  s.n_ff = 512;
  return s;
}

std::string write(const TinyModel& s) {
  return write_tiny_model(s, temp_path(s.architecture + ggml_type_name(s.type) + ".gguf"));
}

Model load(const std::string& path, int n_gpu_layers) {
  ModelParams params;
  params.n_gpu_layers = n_gpu_layers;
  if (n_gpu_layers > 0) params.rpc_servers = rpc_servers();
  return must(Model::load(path, params));
}

double relative_difference(std::span<const float> got, std::span<const float> expected) {
  float largest = 0;
  for (const float x : expected) largest = std::max(largest, std::abs(x));
  return largest_difference(got, expected) / largest;
}

// Prefill, a question in one go and single tokens.
void expect_libllamas_logits(const std::string& path, int n_gpu_layers, CacheType type, double bar,
                             int oracles_layers = 0) {
  auto oracle = LlamaCpp::load(path, 2, 1024, GGML_TYPE_F16, nullptr, oracles_layers);
  ASSERT_NE(oracle, nullptr);
  const auto tokens = random_tokens(300, oracle->n_vocab());
  const auto expected = oracle->extend(tokens, true);
  const Model model = load(path, n_gpu_layers);
  ExecutorParams params;
  params.n_batch = 128;
  params.type_k = params.type_v = type;
  OneSequence session = must(OneSequence::create(model, params));
  const Stages worst = compare_stages(session, tokens, expected, relative_difference);
  EXPECT_LE(worst.prefill, bar);
  EXPECT_LE(worst.extend, bar);
  EXPECT_LE(worst.decode, bar);
}

TEST_F(Gpu, LogitsEqualLibllamasOnTheCpu) {
  for (const char* architecture : {"llama", "qwen2", "qwen3"}) {
    SCOPED_TRACE(architecture);
    expect_libllamas_logits(write(shape(architecture)), kAllLayers, CacheType::f16, kBar);
  }
}

TEST_F(Gpu, WhateverPartOfTheLayersLiesThere) {
  for (int n_gpu_layers = 1; n_gpu_layers <= 4; ++n_gpu_layers) {
    SCOPED_TRACE(n_gpu_layers);
    expect_libllamas_logits(write(shape("llama")), n_gpu_layers, CacheType::f16, kBar);
  }
}

TEST_F(Gpu, EveryCacheType) {
  expect_libllamas_logits(write(shape("llama")), kAllLayers, CacheType::f32, kBar);
  expect_libllamas_logits(write(shape("llama")), kAllLayers, CacheType::q8_0, kQuantisedBar);
}

// Against libllama on the GPU: the CPU rounds what it multiplies them by to 8 bits, so its logits are 5 %
// off.
TEST_F(Gpu, QuantisedWeights) {
  for (const ggml_type type : {GGML_TYPE_Q8_0, GGML_TYPE_Q4_0}) {
    SCOPED_TRACE(ggml_type_name(type));
    TinyModel s = shape("llama");
    s.type = type;
    expect_libllamas_logits(write(s), kAllLayers, CacheType::f16, kQuantisedBar, kAllLayers);
  }
}

class GpuPress : public Gpu, public ::testing::WithParamInterface<std::string> {};

// The scores are sums in another order, so one token may stand for another that is as good.
TEST_P(GpuPress, KeepsWhatItKeepsOnTheCpu) {
  const std::string path = write(shape("llama"));
  const auto context = random_tokens(330, 256, 1), question = random_tokens(20, 256, 2);
  const Press press = make_press(GetParam(), 0.6);
  ExecutorParams params;
  params.repeats = [](std::span<const Token> of) {
    std::vector<Repeat> out;
    for (int64_t first = 0; first < 330; first += 110)
      out.push_back({first, 110, {of.begin() + first, of.begin() + first + 110}});
    return Result(out);
  };
  std::vector<Outcome> outcomes;
  for (const int n_gpu_layers : {0, kAllLayers}) {
    const Model model = load(path, n_gpu_layers);
    OneSequence session = must(OneSequence::create(model, params));
    outcomes.push_back(answer(session, context, question, press));
  }
  const Outcome &expected = outcomes[0], &got = outcomes[1];
  size_t n_kept = 0, n_same = 0;
  ASSERT_EQ(got.kept.size(), expected.kept.size());
  for (size_t il = 0; il < got.kept.size(); ++il) {
    for (size_t h = 0; h < got.kept[il].size(); ++h) {
      const auto &a = expected.kept[il][h], &b = got.kept[il][h];
      std::vector<int32_t> both;
      std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(both));
      n_kept += a.size();
      n_same += both.size();
    }
  }
  EXPECT_GE(static_cast<double>(n_same), 0.98 * static_cast<double>(n_kept));
  if (got.kept == expected.kept) {
    EXPECT_LE(relative_difference(got.question_logits, expected.question_logits), kBar);
  }
}

std::vector<std::string> all_presses() {
  std::vector<std::string> names = {"reference_attention+uniform"};  // half of what packs
  for (const PressInfo& p : list_presses()) {
    // Packed rows are the CPU's.
    if (!p.scorer.empty() && !p.allocation.empty() && !make_press(p.name, 0.5).packs())
      names.push_back(p.name);
  }
  return names;
}

INSTANTIATE_TEST_SUITE_P(Presses, GpuPress, ::testing::ValuesIn(all_presses()),
                         [](const auto& i) { return i.param.substr(0, i.param.find('+')); });

// Heads that grow past their room are moved to larger buffers, and bounded ones compacted, all on the device.
TEST_F(Gpu, GrowsAndShrinksAsOnTheCpu) {
  const std::string path = write(shape("llama"));
  const auto context = random_tokens(300, 256, 1), more = random_tokens(500, 256, 2);
  std::vector<std::vector<float>> logits;
  for (const int n_gpu_layers : {0, kAllLayers}) {
    const Model model = load(path, n_gpu_layers);
    OneSequence session = must(OneSequence::create(model, {}));
    must(session.read(context, make_press("adacurdkv", 0.5)));
    must(session.extend(more));
    must(session.compress(make_press("streamingllm", 0.5), 64));
    must(session.extend(std::span(more).first(10)));
    must(session.extend(std::span(more).first(1)));
    logits.emplace_back(session.logits().begin(), session.logits().end());
  }
  EXPECT_LE(relative_difference(logits[1], logits[0]), kBar);
}

}  // namespace
}  // namespace curdkv::testing
