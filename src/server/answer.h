// One answer under way: tokens are chosen and become text, until the model ends its turn, a stop text comes
// up, or there are enough.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/utf8.h"
#include "curdkv/sequence.h"
#include "server/task.h"

namespace curdkv::server {

// Lets text through up to the first of some texts, and holds back what may be the beginning of one.
class StopTexts {
 public:
  explicit StopTexts(std::vector<std::string> texts) : texts_(std::move(texts)) {}
  std::string push(std::string_view text);             // what may be shown
  std::string flush();                                 // what was held back
  const std::string& found() const { return found_; }  // the one that came up, or ""

 private:
  std::vector<std::string> texts_;
  std::string held_, found_;
};

// A token's probability among all, and the n_top likeliest. logits: F32 [n_vocab], finite.
TokenProb probability(std::span<const float> logits, Token token, int n_top);

class Answer {
 public:
  // Errors: as of Sampler::create. choice: the task's which-eth; each draws random numbers of its own.
  static Result<Answer> begin(const TaskPtr& task, int choice, const Tokenizer& tokenizer, Sequence sequence);

  // Chooses the next token from the sequence's logits and tells of it. When the answer is over, next() is
  // nothing. Errors: what the grammar throws.
  Result<void> choose(const Tokenizer& tokenizer, int64_t n_ctx);

  std::optional<Token> next() const { return next_; }  // to be appended to the sequence
  bool is_over() const { return over_; }
  Sequence& sequence() { return sequence_; }
  int64_t n_tokens() const { return n_tokens_; }

 private:
  Answer(TaskPtr task, int choice, Sampler sampler, Sequence sequence);
  void tell(const std::string& text);
  void end(const char* finish);

  TaskPtr task_;
  int choice_;
  Sampler sampler_;
  Sequence sequence_;
  Utf8Stream utf8_;
  StopTexts stops_;
  std::vector<TokenProb> probs_;  // of tokens whose text has not been told
  std::optional<Token> next_;
  int64_t n_tokens_ = 0;
  bool over_ = false;
};

}  // namespace curdkv::server
