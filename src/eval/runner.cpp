#include "eval/runner.h"

#include <algorithm>

#include "base/try.h"
#include "base/utf8.h"

namespace curdkv::eval {

int64_t Runner::n_predict(const TaskInfo& task) const {
  const bool more = settings_.kvpress_lengths && task.benchmark == Benchmark::longbench;
  const int64_t allowed = task.n_predict + (more ? 20 : 0);
  return settings_.n_predict > 0 ? std::min(settings_.n_predict, allowed) : allowed;
}

// LongBench's pred.py: the first and the last half of the tokens that fit.
Result<std::string> Runner::without_middle(const std::string& text) const {
  CURDKV_TRY(const std::vector<Token> tokens, engine_.tokenizer().tokenize(text, false, false));
  if (settings_.max_context == 0 || std::ssize(tokens) <= settings_.max_context) return text;
  const auto half = static_cast<size_t>(settings_.max_context / 2);
  const auto whole_characters = [&](std::span<const Token> part) {
    Utf8Stream stream;
    const std::string whole = stream.push(engine_.tokenizer().text(part));
    return whole + stream.flush();
  };
  return whole_characters(std::span(tokens).first(half)) + whole_characters(std::span(tokens).last(half));
}

Result<std::vector<Token>> Runner::context_of(const TaskInfo& task, const Sample& sample) const {
  if (task.benchmark == Benchmark::ruler) return engine_.prompt().context(sample.context);
  CURDKV_TRY(const std::string text, without_middle(sample.context));
  return engine_.prompt().context(text);
}

// All sides take the question, and then their answers are decoded, in step, so that weights are read once for
// all.
Result<std::vector<Generation>> Runner::answer(const TaskInfo& task, std::span<Side> sides,
                                               std::span<const Token> question) {
  std::vector<Sequence*> sequences;
  std::vector<Span> questions;
  for (Side& side : sides) {
    sequences.push_back(&side.sequence);
    questions.push_back({&side.sequence, question});
  }
  CURDKV_CHECK(executor_.step(questions));
  return generate_together(executor_, sequences, engine_.tokenizer(), n_predict(task));
}

Prediction Runner::prediction_of(const TaskInfo& task, const Sample& sample, const Side& side,
                                 const Generation& generation) const {
  Prediction out;
  out.task = task.name;
  out.sample = sample.index;
  out.press = side.press.spec();
  out.n_context_tokens = side.report.n_tokens;
  out.compression_ratio = side.press.removed(out.n_context_tokens);
  out.prediction = generation.text;
  out.references = sample.references;
  out.score = score_of(task, out.prediction, sample.references, sample.classes, settings_.scoring);
  out.kv_bytes = static_cast<int64_t>(side.report.kv_bytes);
  out.timings = Timings{side.report.prefill_ms, side.report.compress_ms};
  out.press_params = side.press.settings();
  return out;
}

Result<void> Runner::run(const TaskInfo& task, const Sample& sample, std::span<const Press> presses,
                         const Progress& progress, const PredictionSink& sink) {
  CURDKV_TRY(const std::vector<Token> context, context_of(task, sample));
  CURDKV_TRY(const std::vector<Token> question,
             engine_.prompt().question(sample.question, sample.answer_prefix));
  const int64_t n_all = std::ssize(context) + std::ssize(question) + n_predict(task);
  const int64_t limit = executor_.n_ctx();
  if (n_all > limit) {
    return Error{
        ErrorCode::bad_input,
        sample.origin + ": field 'context' is too long: " + std::to_string(context.size()) +
            " tokens, with question and answer " + std::to_string(n_all) +
            (limit != engine_.info().n_ctx_train ? ", and -c allows " : ", and the model's context holds ") +
            std::to_string(limit) + " (see --context-tokens)"};
  }
  std::vector<Side> sides;
  std::vector<ReadTarget> targets;
  ReadOptions options;
  options.progress = progress;
  for (const Press& press : presses) sides.push_back({executor_.sequence(), press});
  for (Side& side : sides) targets.push_back({&side.sequence, side.press});
  CURDKV_TRY(const auto reports, executor_.read_together(targets, context, options));
  for (size_t i = 0; i < sides.size(); ++i) sides[i].report = reports[i];
  CURDKV_TRY(const std::vector<Generation> answers, answer(task, sides, question));
  for (size_t i = 0; i < sides.size(); ++i) {
    CURDKV_CHECK(sink(prediction_of(task, sample, sides[i], answers[i])));
  }
  return {};
}

}  // namespace curdkv::eval
