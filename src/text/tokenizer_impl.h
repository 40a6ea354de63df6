// libllama's vocabulary, loaded without weights.
#pragma once

#include <llama-cpp.h>

#include "curdkv/text.h"

namespace curdkv {

struct Tokenizer::Impl {
  llama_model_ptr model;
  const llama_vocab* vocab = nullptr;
};

}  // namespace curdkv
