#include "curdkv/engine.h"

#include "base/guard.h"
#include "base/try.h"

namespace curdkv {

Result<Engine> Engine::open(const std::string& path, const EngineParams& params) {
  return guarded([&]() -> Result<Engine> {
    CURDKV_TRY(Model model, Model::load(path, params.model));
    CURDKV_TRY(Tokenizer tokenizer, Tokenizer::load(path));
    CURDKV_TRY(Prompt prompt, Prompt::create(tokenizer, params.prompt));
    return Engine(std::move(model), std::move(tokenizer), std::move(prompt));
  });
}

Result<Executor> Engine::executor(const ExecutorParams& params) const {
  return guarded([&]() -> Result<Executor> {
    ExecutorParams p = params;
    if (!p.repeats) {
      p.repeats = [prompt = prompt_](std::span<const Token> context) { return prompt.repeats(context); };
    }
    return Executor::create(model_, p);
  });
}

}  // namespace curdkv
