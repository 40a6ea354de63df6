// curdkv run --context: questions are answered from a context that was saved. No document is read.
#include <algorithm>

#include "base/try.h"
#include "context_report.h"
#include "questions.h"
#include "run_options.h"
#include "run_report.h"
#include "saved_file.h"
#include "terminal.h"

namespace curdkv::app {
namespace {

// What was settled when the context was made.
Result<void> check_options(const RunOptions& o) {
  const auto refused = [](const std::string& what) { return Error{ErrorCode::bad_argument, what}; };
  if (!o.document.empty())
    return refused("with --context no document is read: leave out -f and -p, or --context");
  if (o.truncate != Truncate::none)
    return refused("--truncate is of a document, and with --context none is read: leave it out");
  if (o.query_aware) return refused("--query-aware reads the document, which --context does without");
  if (o.compare_full) return refused("--compare-full reads the document, which --context does without");
  if (o.generate.decode_budget.budget == 0 && o.press.asked_for_compression()) {
    return refused(
        "what a context keeps was settled when it was saved: with --context leave out options of "
        "compression");
  }
  return {};
}

class SavedRun {
 public:
  explicit SavedRun(const RunOptions& options) : o_(options), questions_(options) {}

  Result<void> run() {
    CURDKV_CHECK(check_options(o_));
    Press press;  // of --decode-budget
    if (o_.generate.decode_budget.budget > 0) {
      CURDKV_TRY(press, o_.press.resolve(o_.executor));
      CURDKV_CHECK(check_bound(press));
    }
    CURDKV_TRY(const std::string path, o_.model.resolve());
    CURDKV_TRY([[maybe_unused]] const Sampler possible, Sampler::create(o_.generate.sampling));
    CURDKV_TRY(SavedFile saved, SavedFile::open(o_.context, o_.model.params.use_mmap));
    const ContextInfo& info = saved.info();
    CURDKV_TRY(ExecutorParams params, o_.executor.resolve(info.type_k, info.type_v));
    CURDKV_TRY(const Engine engine, o_.prompt.open(path, o_.model.params));
    CURDKV_CHECK(saved.context().check(engine));
    CURDKV_CHECK(questions_.tokenise(engine.prompt()));
    CURDKV_TRY(params.n_ctx, questions_.check_length(engine.info(), info.next_position, press));

    const InterruptScope scope;
    CURDKV_TRY(Executor executor, engine.executor(params));
    CURDKV_TRY(Sequence context, saved.restore(engine, executor));
    size_t peak = context.kv_bytes();
    std::vector<Answer> answers;
    for (size_t i = 0; i < o_.questions.size(); ++i) {
      Sequence asked = context.fork();
      CURDKV_TRY(answers.emplace_back(),
                 questions_.ask(engine, executor, asked, press, i, info.tokens, !o_.json, false));
      peak = std::max(peak, asked.kv_bytes());
    }
    if (o_.json) return print_json(engine.info(), saved, params, context, peak, answers);
    write_err(decoding_as_text(answers));
    return {};
  }

 private:
  Result<void> check_bound(const Press& press) const {
    CURDKV_CHECK(press.check_decode_budget(o_.generate.decode_budget.budget));
    if (press.n_recent_queries() == 0) return {};
    return Error{
        ErrorCode::bad_argument,
        "--decode-budget behind a saved context needs a press that looks at keys and values alone, as "
        "ridgekv does: '" +
            press.name() + "' looks at queries, which a file does not hold"};
  }

  Result<void> print_json(const ModelInfo& model, const SavedFile& saved, const ExecutorParams& params,
                          const Sequence& context, size_t peak, const std::vector<Answer>& answers) const {
    nlohmann::ordered_json j = {{"model", model.path}, {"architecture", model.architecture}};
    j.update(context_json(saved.info()));
    j["seed"] = o_.press.request.seed;
    j["threads"] = params.n_threads;
    j["restore_ms"] = saved.restore_ms();
    j["kv_bytes"] = context.kv_bytes();
    j["kv_bytes_peak"] = peak;
    j["rss_peak_bytes"] = peak_rss_bytes();
    if (o_.generate.decode_budget.budget > 0) {
      j["decode_budget"] = o_.generate.decode_budget.budget;
      j["decode_interval"] = o_.generate.decode_budget.interval;
    }
    j["answers"] = answers_json(o_.questions, answers);
    return write_json(j);
  }

  const RunOptions& o_;
  Questions questions_;
};

}  // namespace

Result<void> run_saved(const RunOptions& options) {
  return SavedRun(options).run();
}

}  // namespace curdkv::app
