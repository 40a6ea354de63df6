// The questions of a run: their tokens, whether there is room for them, and their answers.
#pragma once

#include <span>
#include <vector>

#include "curdkv/engine.h"
#include "run_options.h"
#include "run_report.h"

namespace curdkv::app {

// The context limit in force. Errors: bad_input if a context and the tokens behind it exceed it, with the
// mend. given: -c, 0 if it was not.
Result<int64_t> context_limit(const ModelInfo& model, int64_t given, int64_t n_context, int64_t n_behind);

class Questions {
 public:
  explicit Questions(const RunOptions& options) : o_(options) {}

  Result<void> tokenise(const Prompt& prompt);
  const std::vector<Token>& tokens(size_t index) const { return tokens_[index]; }

  // As context_limit(). What is left for an answer may be less than was asked for, which is said.
  Result<int64_t> check_length(const ModelInfo& model, int64_t n_context, const Press& press) const;

  // Most tokens of a context that leave room for the longest question and an answer of n_predict tokens or,
  // without a limit, of 256. May be negative.
  int64_t room_for_context(const ModelInfo& model, const Press& press) const;

  // Asks a question of a sequence that holds the context, or, already_read, the question too. context: its
  // tokens, as far as they are known. stream: the answer is written to stdout as it comes.
  Result<Answer> ask(const Engine& engine, Executor& executor, Sequence& sequence, const Press& press,
                     size_t index, std::span<const Token> context, bool stream, bool already_read) const;

 private:
  int64_t longest() const;                      // question
  int64_t most_held(const Press& press) const;  // positions that an answer stays below; 0: they go on

  const RunOptions& o_;
  std::vector<std::vector<Token>> tokens_;
};

}  // namespace curdkv::app
