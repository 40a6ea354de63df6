// The default model, fetched by the build; tests with the label "model" run on it.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "curdkv/text.h"
#include "support/must.h"

namespace curdkv::testing {

inline std::string env_or_die(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr) {
    std::fprintf(stderr, "%s is not set; run these tests through ctest\n", name);
    std::abort();
  }
  return value;
}

inline std::string real_model_path() {
  return env_or_die("CURDKV_TEST_MODEL");
}

// The demo's document as tokens, repeated until there are n.
inline std::vector<Token> document_tokens(const Tokenizer& tokenizer, size_t n) {
  std::ifstream file(env_or_die("CURDKV_TEST_DOCUMENT"));
  std::stringstream text;
  text << file.rdbuf();
  const auto once = must(tokenizer.tokenize(text.str(), false, true));
  std::vector<Token> tokens;
  while (tokens.size() < n) tokens.insert(tokens.end(), once.begin(), once.end());
  tokens.resize(n);
  return tokens;
}

}  // namespace curdkv::testing
