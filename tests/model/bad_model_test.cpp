// Model files that are broken or not for us: an error that names the reason, or a model that works; never a
// crash.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "curdkv/engine.h"
#include "support/one_sequence.h"
#include "support/tiny_model.h"

namespace curdkv::testing {
namespace {

std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream out;
  out << file.rdbuf();
  return out.str();
}

std::string write(const std::string& name, const std::string& bytes) {
  const std::string path = temp_path(name);
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

// Loads everything a run needs and uses it; true if all of it worked.
bool try_model(const std::string& path) {
  const auto model = Model::load(path);
  const auto tokenizer = Tokenizer::load(path);
  if (!model || !tokenizer) {
    EXPECT_FALSE((model ? tokenizer.error() : model.error()).message.empty());
    return false;
  }
  const auto prompt = Prompt::create(*tokenizer);
  const auto tokens = tokenizer->tokenize("the king in the north", false, true);
  if (!tokens || tokens->empty()) return false;
  auto session = OneSequence::create(*model, {});
  if (!session) return false;
  if (!session->read(*tokens, make_press("adacurdkv", 0.5))) return false;
  if (prompt) {
    if (const auto q = prompt->question("who?")) (void)session->extend(*q);
  }
  for (Token t = 0; t < 20; ++t) (void)tokenizer->piece(t);
  return true;
}

void expect_refused(const std::string& path, ErrorCode code, const std::string& words) {
  const auto loaded = Model::load(path);
  const auto inspected = Model::inspect(path);
  const auto opened = Engine::open(path);
  ASSERT_FALSE(loaded || inspected || opened);
  for (const Error& e : {loaded.error(), inspected.error(), opened.error()}) {
    EXPECT_EQ(e.code, code) << e.message;
    EXPECT_NE(e.message.find(words), std::string::npos) << e.message;
    EXPECT_NE(e.message.find(path), std::string::npos) << e.message;
  }
}

TEST(BadModel, NotAModel) {
  expect_refused(temp_path("missing.gguf"), ErrorCode::io, "No such file");
  expect_refused(std::filesystem::path(temp_path("x")).parent_path().string(), ErrorCode::io,
                 "is a directory");
  expect_refused(write("empty.gguf", ""), ErrorCode::corrupt, "is empty");
  expect_refused(write("text.gguf", "hello, world, this is no model"), ErrorCode::corrupt,
                 "is not a GGUF file");
  expect_refused("/dev/null", ErrorCode::io, "not a regular file");
  const std::string pipe = temp_path("pipe.gguf");
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  expect_refused(pipe, ErrorCode::io, "not a regular file");
}

TEST(BadModel, NoVocabulary) {
  const auto code = [](const std::string& path) {
    const auto tokenizer = Tokenizer::load(path);
    return tokenizer ? std::optional<ErrorCode>() : tokenizer.error().code;
  };
  EXPECT_EQ(code(temp_path("missing.gguf")), ErrorCode::io);
  EXPECT_EQ(code(write("text.gguf", "hello, world, this is no model")), ErrorCode::corrupt);
  std::string bytes = read(write_tiny_model({}, temp_path("vocabulary.gguf")));
  const std::string key = "tokenizer.ggml.model";
  const size_t at = bytes.find(key);
  ASSERT_NE(at, std::string::npos);
  bytes[at + key.size() + 12] = '?';  // behind the value's type and length: the first letter of "gpt2"
  EXPECT_EQ(code(write("vocabulary.gguf", bytes)), ErrorCode::unsupported);
}

TEST(BadModel, NotSupported) {
  const auto with = [](const char* file, auto change) {
    TinyModel m;
    change(m);
    return write_tiny_model(m, temp_path(file));
  };
  expect_refused(with("a.gguf", [](TinyModel& m) { m.architecture = "gemma3"; }), ErrorCode::unsupported,
                 "architecture 'gemma3' is not supported (supported: llama, deci, qwen2, qwen3)");
  expect_refused(with("b.gguf", [](TinyModel& m) { m.extra_key = "llama.expert_count", m.extra_value = 8; }),
                 ErrorCode::unsupported, "mixture-of-experts");
  expect_refused(with("c.gguf", [](TinyModel& m) { m.d_head = 15; }), ErrorCode::unsupported,
                 "heads of an odd size");
  for (const uint32_t n_rot : {4u, 7u, 18u}) {
    expect_refused(
        with("c.gguf",
             [&](TinyModel& m) { m.extra_key = "llama.rope.dimension_count", m.extra_value = n_rot; }),
        ErrorCode::corrupt, "rope.dimension_count = " + std::to_string(n_rot));
  }
  expect_refused(with("c.gguf",
                      [](TinyModel& m) {
                        m.architecture = "qwen2";
                        m.extra_key = "qwen2.rope.dimension_count", m.extra_value = 5;
                      }),
                 ErrorCode::corrupt, "rope.dimension_count = 5");
  expect_refused(
      with("c.gguf", [](TinyModel& m) { m.extra_key = "llama.nextn_predict_layers", m.extra_value = 1; }),
      ErrorCode::unsupported, "predict several tokens");
  expect_refused(with("d.gguf", [](TinyModel& m) { m.omit = "blk.1.ffn_up.weight"; }), ErrorCode::corrupt,
                 "lacks the tensor 'blk.1.ffn_up.weight'");
  expect_refused(with("e.gguf",
                      [](TinyModel& m) {
                        m.architecture = "qwen3";
                        m.omit = "blk.0.attn_q_norm.weight";
                      }),
                 ErrorCode::corrupt, "blk.0.attn_q_norm.weight");
  expect_refused(with("f.gguf", [](TinyModel& m) { m.rope_scaling = "longrope"; }), ErrorCode::unsupported,
                 "'longrope' is not supported");
  expect_refused(with("g.gguf",
                      [](TinyModel& m) {
                        m.extra_key = "split.count";
                        m.extra_value = 3;
                      }),
                 ErrorCode::unsupported, "split model");
  expect_refused(with("h.gguf",
                      [](TinyModel& m) {
                        m.extra_key = "llama.attention.head_count";
                        m.extra_value = 3;
                      }),
                 ErrorCode::corrupt, "head_count");
  expect_refused(with("i.gguf",
                      [](TinyModel& m) {
                        m.extra_key = "llama.block_count";
                        m.extra_value = 1;
                      }),
                 ErrorCode::unsupported, "blk.1.");
}

TEST(BadModel, UnequalLayers) {
  const auto with = [](auto change) {
    TinyModel m = unequal_layers();
    change(m);
    return write_tiny_model(m, temp_path("unequal.gguf"));
  };
  EXPECT_TRUE(try_model(with([](TinyModel&) {})));
  EXPECT_EQ(must(Model::inspect(with([](TinyModel&) {}))).n_head, 8) << "the most of any layer";
  expect_refused(with([](TinyModel& m) { m.n_layer = 2; }), ErrorCode::corrupt,
                 "feed_forward_length holds 3 values, not the 2 expected");
  expect_refused(with([](TinyModel& m) { m.n_head_kv_of = {3, 3, 2}; }), ErrorCode::corrupt, "no multiple");
  // Layers without attention or without a feed-forward network.
  expect_refused(with([](TinyModel& m) { m.n_head_of[1] = 0; }), ErrorCode::corrupt,
                 "head_count = 0 is out of range");
  expect_refused(with([](TinyModel& m) { m.n_ff_of[2] = 0; }), ErrorCode::corrupt,
                 "feed_forward_length = 0 is out of range");
}

TEST(BadModel, TruncatedAnywhere) {
  const std::string whole = read(write_tiny_model({}, temp_path("whole.gguf")));
  std::mt19937 rng(1);
  for (int i = 0; i < 200; ++i) {
    // Half of the cuts within the metadata and the tensor directory, which come first.
    const size_t n = rng() % (i % 2 ? whole.size() : std::min<size_t>(whole.size(), 12000));
    const std::string cut = write("cut.gguf", whole.substr(0, n));
    EXPECT_FALSE(try_model(cut)) << n;
    const auto model = Model::load(cut);
    EXPECT_TRUE(!model && model.error().code == ErrorCode::corrupt) << n;
  }
  EXPECT_TRUE(try_model(write("cut.gguf", whole)));
}

TEST(BadModel, FlippedBytesInTheMetadata) {
  const std::string whole = read(write_tiny_model({}, temp_path("whole.gguf")));
  const size_t n_metadata = whole.find("blk.1.ffn_down.weight") + 60;
  std::mt19937 rng(2);
  int working = 0;
  for (int i = 0; i < 500; ++i) {
    std::string bytes = whole;
    bytes[rng() % n_metadata] ^= static_cast<char>(1 + rng() % 255);
    working += try_model(write("flipped.gguf", bytes));
  }
  EXPECT_GT(working, 50) << "most flips hit text and leave a working model";
}

}  // namespace
}  // namespace curdkv::testing
