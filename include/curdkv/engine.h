// A GGUF model ready to answer: weights, tokenizer and prompt, opened in one. This header is all that a
// program needs to include.
#pragma once

#include <string>

#include "curdkv/executor.h"
#include "curdkv/generate.h"
#include "curdkv/model.h"
#include "curdkv/text.h"

namespace curdkv {

struct EngineParams {
  ModelParams model = {};
  PromptOptions prompt = {};
};

// Copies share the weights and the vocabulary, which are freed with the last of them and of the executors
// made. Immutable: any number of threads may use an engine at once.
class Engine {
 public:
  // Errors: as of Model::load, Tokenizer::load and Prompt::create.
  static Result<Engine> open(const std::string& path, const EngineParams& params = {});

  const Model& model() const { return model_; }
  const ModelInfo& info() const { return model_.info(); }
  const Tokenizer& tokenizer() const { return tokenizer_; }
  const Prompt& prompt() const { return prompt_; }

  // What computes, a thread's own; it may outlive the engine. It repeats contexts in the prompt's words
  // where a press needs that, unless params say how. Errors: as of Executor::create.
  Result<Executor> executor(const ExecutorParams& params = {}) const;

 private:
  Engine(Model model, Tokenizer tokenizer, Prompt prompt)
      : model_(std::move(model)), tokenizer_(std::move(tokenizer)), prompt_(std::move(prompt)) {}

  Model model_;
  Tokenizer tokenizer_;
  Prompt prompt_;
};

}  // namespace curdkv
