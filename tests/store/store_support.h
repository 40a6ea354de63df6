// Contexts of tiny models, saved and opened again, and files to be damaged.
#pragma once

#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "curdkv/context.h"
#include "support/must.h"
#include "support/tiny_model.h"

namespace curdkv::testing {

// The tiny model with three layers, as an engine; made once a program.
inline const Engine& engine_of(const std::string& architecture = "llama") {
  static std::map<std::string, Engine> made;
  auto it = made.find(architecture);
  if (it == made.end()) {
    TinyModel shape = architecture == "deci" ? unequal_layers() : three_layers(GGML_TYPE_Q8_0);
    shape.architecture = architecture;
    shape.d_head = 32;  // all cache types fit
    const std::string path = write_tiny_model(shape, temp_path("store-" + architecture + ".gguf"));
    it = made.emplace(architecture, must(Engine::open(path))).first;
  }
  return it->second;
}

inline Executor executor_of(const Engine& engine, CacheType type = CacheType::f16) {
  ExecutorParams params;
  params.n_threads = 1;  // these models are too small for more
  params.type_k = params.type_v = type;
  return must(engine.executor(params));
}

inline std::vector<Token> some_tokens(const Engine& engine, int64_t n, uint32_t seed = 1) {
  return random_tokens(n, engine.info().n_vocab, seed);
}

// Logits after a question and after the tokens of an answer.
inline std::vector<float> answer(Executor& executor, Sequence sequence) {
  const auto tokens = random_tokens(12, 256, 5);
  std::vector<float> all;
  const LogitsSink keep = [&](int64_t, std::span<const float> logits) {
    all.insert(all.end(), logits.begin(), logits.end());
  };
  must(executor.extend(sequence, std::span(tokens).first(9), keep));
  for (size_t i = 9; i < tokens.size(); ++i) must(executor.extend(sequence, {&tokens[i], 1}, keep));
  return all;
}

inline std::string read_bytes(const std::string& path) {
  std::stringstream bytes;
  bytes << std::ifstream(path, std::ios::binary).rdbuf();
  return bytes.str();
}

inline void write_bytes(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

}  // namespace curdkv::testing
