// libllama's vocabulary, loaded without weights.
#pragma once

#include <llama.h>

#include <memory>

#include "curdkv/text.h"

namespace curdkv {

struct Tokenizer::Impl {
  struct Free {
    void operator()(llama_model* m) const { llama_model_free(m); }
  };
  std::unique_ptr<llama_model, Free> model;
  const llama_vocab* vocab = nullptr;
};

}  // namespace curdkv
