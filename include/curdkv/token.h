// A token of a model's vocabulary.
#pragma once

#include <cstdint>
#include <vector>

namespace curdkv {

using Token = int32_t;

// A stretch of a context, and the tokens that ask for it to be repeated and then repeat it: what KVzip reads
// behind the context to score it. Prompt::repeats makes them.
struct Repeat {
  int64_t first = 0, n = 0;  // tokens of the context
  std::vector<Token> tokens;
};

}  // namespace curdkv
