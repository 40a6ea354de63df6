// curdkv run: a document is read once, its cache compressed, and questions are answered from what is left.
#include <algorithm>

#include "base/format.h"
#include "base/try.h"
#include "command.h"
#include "escapes.h"
#include "numbers.h"
#include "questions.h"
#include "run_options.h"
#include "run_report.h"
#include "sampling_flags.h"
#include "terminal.h"

namespace curdkv::app {
namespace {

class Run {
 public:
  explicit Run(const RunOptions& options) : o_(options), questions_(options) {}

  Result<void> run() {
    CURDKV_TRY(Press press, o_.press.resolve(o_.executor));
    if (o_.generate.decode_budget.budget > 0) {
      CURDKV_CHECK(press.check_decode_budget(o_.generate.decode_budget.budget));
    }
    CURDKV_TRY(const std::string document, o_.document.read());
    CURDKV_TRY(const std::string path, o_.model.resolve());
    CURDKV_TRY([[maybe_unused]] const Sampler possible, Sampler::create(o_.generate.sampling));
    CURDKV_TRY(const Engine engine, o_.prompt.open(path, o_.model.params));
    CURDKV_TRY(context_, engine.prompt().context(document));
    CURDKV_CHECK(questions_.tokenise(engine.prompt()));
    CURDKV_TRY(n_truncated_,
               truncate(engine, o_.truncate, questions_.room_for_context(engine.info(), press), context_));
    press = o_.press.unless_short(press, std::ssize(context_),
                                  o_.query_aware || o_.compare_full || o_.generate.decode_budget.budget > 0);
    params_ = o_.executor.resolve();
    CURDKV_TRY(params_.n_ctx, questions_.check_length(engine.info(), std::ssize(context_), press));

    Reading full;
    if (o_.compare_full) {
      CURDKV_TRY(full, read(engine, Press(), false));
    }
    CURDKV_TRY(const Reading reading, read(engine, press, !o_.json && !o_.compare_full));
    if (o_.json) return print_json(engine.info(), press, reading, full);
    if (o_.compare_full) return write_out(side_by_side(o_.questions, full, reading));
    return {};
  }

 private:
  Result<Reading> read(const Engine& engine, const Press& press, bool stream) {
    const InterruptScope scope;
    CURDKV_TRY(Executor executor, engine.executor(params_));
    Sequence context = executor.sequence();
    Reading r;
    r.label = press_label(press);
    const bool query_aware = o_.query_aware && !press.is_none();
    for (size_t i = 0; i < o_.questions.size(); ++i) {
      if (i == 0 || query_aware) {
        context.clear();
        CURDKV_CHECK(
            read_context(executor, context, press, query_aware ? &questions_.tokens(i) : nullptr, r));
        if (i == 0) write_err(reading_as_text(r));
      }
      // Each question is asked of the context alone.
      const bool last = i + 1 == o_.questions.size();
      Sequence asked = last ? std::move(context) : context.fork();
      CURDKV_TRY(Answer answer,
                 questions_.ask(engine, executor, asked, press, i, context_, stream, query_aware));
      if (query_aware) answer.question_ms = r.prefill.prefill_ms;
      r.answers.push_back(std::move(answer));
      r.kv_bytes_peak = std::max(r.kv_bytes_peak, asked.kv_bytes());
    }
    if (stream) write_err(decoding_as_text(r.answers));
    return r;
  }

  // Reads the context, and behind it the question that is to take part in the scoring, if there is one.
  Result<void> read_context(Executor& executor, Sequence& context, const Press& press,
                            const std::vector<Token>* question, Reading& r) {
    std::vector<Token> tokens = context_;
    ReadOptions options;
    if (question != nullptr) {
      tokens.insert(tokens.end(), question->begin(), question->end());
      options.n_question = static_cast<int64_t>(question->size());
    }
    if (o_.generate.decode_budget.budget > 0) options.n_recent_queries = press.n_recent_queries();
    ProgressBar bar("reading, " + r.label, static_cast<int64_t>(tokens.size()));
    options.progress = [&](int64_t done, int64_t total) { bar.update(done, total); };
    CURDKV_TRY(r.prefill, executor.read(context, tokens, press, options));
    r.n_kept = context.cache_lengths();
    r.kv_bytes_peak = std::max(r.kv_bytes_peak, r.prefill.kv_bytes_peak);
    return {};
  }

  Result<void> print_json(const ModelInfo& model, const Press& press, const Reading& r,
                          const Reading& full) const {
    nlohmann::ordered_json j = {{"model", model.path},
                                {"architecture", model.architecture},
                                {"press", press.name()},
                                {"press_params", press.settings()},
                                {"compression_ratio", press.removed(r.prefill.n_tokens)},
                                {"budget", nullptr},
                                {"seed", o_.press.request.seed},
                                {"threads", params_.n_threads},
                                {"n_context_tokens", r.prefill.n_tokens},
                                {"n_truncated", n_truncated_},
                                {"n_kept", r.n_kept},
                                {"kv_bytes_full", r.prefill.kv_bytes_full},
                                {"kv_bytes", r.prefill.kv_bytes},
                                {"kv_bytes_peak", r.kv_bytes_peak},
                                {"rss_peak_bytes", peak_rss_bytes()},
                                {"prefill_ms", r.prefill.prefill_ms},
                                {"compress_ms", r.prefill.compress_ms},
                                {"answers", nullptr}};
    if (press.budget()) j["budget"] = *press.budget();
    if (press.protect_last() > 0) j["protect_last"] = press.protect_last();
    if (o_.query_aware) j["query_aware"] = true;
    if (o_.generate.decode_budget.budget > 0) {
      j["decode_budget"] = o_.generate.decode_budget.budget;
      j["decode_interval"] = o_.generate.decode_budget.interval;
    }
    j["answers"] = answers_json(o_.questions, r.answers);
    for (size_t i = 0; o_.compare_full && i < r.answers.size(); ++i)
      j["answers"][i]["full"] = answer_json(full.answers[i]);
    return write_json(j);
  }

  const RunOptions& o_;
  ExecutorParams params_;
  Questions questions_;
  std::vector<Token> context_;
  int64_t n_truncated_ = 0;  // tokens of the document that are left out
};

// What options mean together.
void settle(RunOptions& o) {
  settle_generation(o.generate, o.press.request.seed);
  o.press.choose(o.model, o.executor, o.generate.decode_budget.budget > 0);
  if (o.escapes) {
    o.document.unescape();
    for (std::string& q : o.questions) q = unescaped(q);
  }
}

}  // namespace

Command add_run(CLI::App& program) {
  CLI::App* app =
      program.add_subcommand("run", "answer questions about a document from its compressed cache");
  auto o = std::make_shared<RunOptions>();
  o->model.add_to(*app);
  o->document.add_to(*app);
  app->add_option("--context", o->context,
                  "a context that 'curdkv compress' saved, instead of a document; it is not read again")
      ->type_name("FILE")
      ->check(check_name);
  app->add_option("-q,--question", o->questions,
                  "question about the document; may be given again, each is answered "
                  "from the same compressed context")
      ->type_name("TEXT")
      ->required()
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  o->prompt.add_to(*app);
  o->press.add_to(*app, kRecommended, kRecommendedRatio);
  app->footer(kShortDocuments);
  app->add_option_function<std::string>(
         "--truncate", [o](const std::string& name) { o->truncate = truncations().at(name); },
         "keep what fits of a document that is too long for the context, with the longest question and an "
         "answer of -n tokens (256 if -n is -1): its head, its tail, or both, with [...] for the middle; "
         "else such a document is refused")
      ->type_name("head|tail|middle")
      ->check(CLI::IsMember(truncations()).description(""));
  app->add_flag("--compare-full", o->compare_full, "answer from the full cache too and show both");
  app->add_flag("-e,--escape,!--no-escape", o->escapes,
                "take \\n, \\t, \\\", \\\\ and \\x41 in -p and -q for what they stand for");
  app->add_flag("--query-aware", o->query_aware,
                "let the question take part in the scoring; the document is then read anew for each");
  app->add_option("--decode-budget", o->generate.decode_budget.budget,
                  "tokens per KV head to go back to while generating, so that the cache stays within "
                  "bounds (0: it grows)")
      ->type_name("TOKENS")
      ->transform(whole_number(0, kMostTokens))
      ->capture_default_str();
  app->add_option("--decode-interval", o->generate.decode_budget.interval,
                  "tokens beyond --decode-budget at which that happens")
      ->type_name("TOKENS")
      ->transform(whole_number(1, kMostTokens))
      ->capture_default_str();
  add_generation(*app, o->generate);
  o->executor.add_to(*app);
  app->add_flag("--json", o->json, "print one JSON object instead of text");
  return [o] {
    settle(*o);
    const auto done = o->context.empty() ? Run(*o).run() : run_saved(*o);
    return done ? kOk : report(done.error());
  };
}

}  // namespace curdkv::app
