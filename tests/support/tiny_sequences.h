// Sequences of the tiny model with three layers, in any weight type: made once a program.
#pragma once

#include <map>
#include <vector>

#include "support/one_sequence.h"
#include "support/tiny_model.h"

namespace curdkv::testing {

inline const Model& tiny(ggml_type type = GGML_TYPE_F32) {
  static std::map<ggml_type, Model> made;
  auto it = made.find(type);
  if (it == made.end()) {
    const std::string path = temp_path(std::string("tiny-") + ggml_type_name(type));
    it = made.emplace(type, must(Model::load(write_tiny_model(three_layers(type), path)))).first;
  }
  return it->second;
}

inline std::vector<Token> tokens(int64_t n, uint32_t seed = 1) {
  return random_tokens(n, tiny().info().n_vocab, seed);
}

inline OneSequence make(const Model& model, ExecutorParams params = {}) {
  params.n_threads = 2;
  return must(OneSequence::create(model, params));
}

inline std::vector<float> logits_of(const OneSequence& s) {
  return {s.logits().begin(), s.logits().end()};
}

}  // namespace curdkv::testing
