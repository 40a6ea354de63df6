#include "questions.h"

#include <algorithm>

#include "base/format.h"
#include "base/stopwatch.h"
#include "base/try.h"
#include "terminal.h"

namespace curdkv::app {
namespace {

constexpr int64_t kUnlimitedAnswer = 256;  // tokens that one without a limit has room for at least

std::string mend_for(int64_t taken, int64_t trained) {
  if (taken <= trained) {
    return format("raise -c to %lld or more; the model was trained for %lld", (long long)taken,
                  (long long)trained);
  }
  return format(
      "shorten the document, or raise -c beyond the %lld tokens the model was trained for and expect "
      "worse answers",
      (long long)trained);
}

const char* what_limits(int64_t given) {
  return given > 0 ? "-c allows" : "the model's context holds";
}

}  // namespace

Result<int64_t> context_limit(const ModelInfo& model, int64_t given, int64_t n_context, int64_t n_behind) {
  const int64_t trained = model.n_ctx_train, limit = given > 0 ? given : trained;
  const int64_t taken = n_context + n_behind;
  if (taken > limit) {
    return Error{
        ErrorCode::bad_input,
        format("the document is too long: %lld tokens, %s%lld, and %s %lld (%s)", (long long)n_context,
               n_behind > 0 ? "with the question " : "in all ", (long long)taken, what_limits(given),
               (long long)limit, mend_for(taken, trained).c_str())};
  }
  if (limit > trained) {
    note(format("-c %lld exceeds the %lld tokens the model was trained for; expect worse answers",
                (long long)limit, (long long)trained));
  }
  return limit;
}

Result<void> Questions::tokenise(const Prompt& prompt) {
  for (const std::string& q : o_.questions) {
    CURDKV_TRY(auto question, prompt.question(q));
    tokens_.push_back(std::move(question));
  }
  return {};
}

int64_t Questions::longest() const {
  int64_t most = 0;
  for (const auto& q : tokens_) most = std::max<int64_t>(most, std::ssize(q));
  return most;
}

int64_t Questions::most_held(const Press& press) const {
  const DecodeBudget& bound = o_.generate.decode_budget;
  return bound.budget > 0 && press.bounds_positions() && !o_.compare_full ? bound.budget + bound.interval : 0;
}

int64_t Questions::room_for_context(const ModelInfo& model, const Press& press) const {
  const int64_t given = o_.executor.params.n_ctx, n_predict = o_.generate.n_predict;
  int64_t answer = n_predict < 0 ? kUnlimitedAnswer : n_predict;
  if (const int64_t held = most_held(press); held > 0) answer = std::min(answer, held);
  return (given > 0 ? given : model.n_ctx_train) - longest() - answer;
}

Result<int64_t> Questions::check_length(const ModelInfo& model, int64_t n_context, const Press& press) const {
  const int64_t given = o_.executor.params.n_ctx, taken = n_context + longest();
  const auto limit = context_limit(model, given, n_context, longest());
  if (!limit && o_.context.empty()) {
    return Error{limit.error().code,
                 limit.error().message + "; --truncate head, tail or middle keeps a part of the document"};
  }
  if (!limit) return limit;
  const int64_t room = *limit - taken;
  const bool renumbered = most_held(press) > 0 && most_held(press) <= room;
  const int64_t most = room + 1;  // the last token of an answer need not be read
  if (o_.generate.n_predict > most && !renumbered) {
    note(
        format("there is room for %lld tokens of an answer, not for %lld: document and question take %lld "
               "of the %lld that %s",
               (long long)most, (long long)o_.generate.n_predict, (long long)taken, (long long)*limit,
               what_limits(given)));
  }
  return limit;
}

Result<Answer> Questions::ask(const Engine& engine, Executor& executor, Sequence& sequence,
                              const Press& press, size_t index, std::span<const Token> context, bool stream,
                              bool already_read) const {
  Answer a;
  const Stopwatch watch;
  if (!already_read) CURDKV_CHECK(executor.extend(sequence, tokens_[index]));
  a.question_ms = watch.ms();
  GenerateOptions options = o_.generate;
  options.decode_budget.press = press;
  if (press.is_none()) options.decode_budget.budget = 0;  // --compare-full's other side
  std::vector<Token> history(context.begin(), context.end());
  history.insert(history.end(), tokens_[index].begin(), tokens_[index].end());
  options.history = history;
  Result<void> written;
  if (stream) {
    if (o_.questions.size() > 1) CURDKV_CHECK(write_out("> " + o_.questions[index] + "\n"));
    options.on_text = [&](const std::string& text) {
      if (written) written = write_out(text);
    };
  }
  CURDKV_TRY(a.generation, generate(executor, sequence, engine.tokenizer(), options));
  if (stream && written) written = write_out(o_.questions.size() > 1 ? "\n\n" : "\n");
  CURDKV_CHECK(written);
  if (a.generation.context_full) {
    note(format("the answer ends where the context of %lld tokens is full", (long long)executor.n_ctx()));
  }
  return a;
}

}  // namespace curdkv::app
