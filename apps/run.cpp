// curdkv run: a document is read once, its cache compressed, and questions are answered from what is left.
#include <algorithm>
#include <limits>

#include "base/format.h"
#include "base/stopwatch.h"
#include "base/try.h"
#include "command.h"
#include "document.h"
#include "escapes.h"
#include "numbers.h"
#include "prompt_flags.h"
#include "run_report.h"
#include "sampling_flags.h"
#include "terminal.h"

namespace curdkv::app {
namespace {

struct RunOptions {
  ModelOptions model;
  ExecutorOptions executor;
  PressOptions press;
  DocumentOptions document;
  PromptFlags prompt;
  GenerateOptions generate;
  std::vector<std::string> questions;
  std::string draft = "lookup";
  bool json = false;
  bool compare_full = false;
  bool query_aware = false;
  bool escapes = false;
};

// Documents of fewer tokens are kept whole unless compression was asked for: there is little to gain, and
// small caches lose answers first.
constexpr int64_t kWorthCompressing = 1024;

// What is done when nothing is said of compression: of the bytes, as the press counts.
constexpr const char* kRecommended = "recommended";
constexpr double kRecommendedRatio = 0.8;

// With --decode-budget, when nothing is said: the others look at each token's query, and those are gone by
// then.
constexpr const char* kDefaultDecodePress = "ridgekv";

struct Prepared {
  std::vector<Token> context;
  std::vector<std::vector<Token>> questions;
};

class Run {
 public:
  explicit Run(const RunOptions& options) : o_(options) {}

  Result<void> run() {
    CURDKV_TRY(Press press, o_.press.resolve(o_.executor));
    if (o_.generate.decode_budget.budget > 0) {
      CURDKV_CHECK(press.check_decode_budget(o_.generate.decode_budget.budget));
    }
    CURDKV_TRY(const std::string document, o_.document.read());
    CURDKV_TRY(const std::string path, o_.model.resolve());
    CURDKV_TRY([[maybe_unused]] const Sampler possible, Sampler::create(o_.generate.sampling));
    CURDKV_TRY(const Engine engine, o_.prompt.open(path, o_.model.params));
    CURDKV_CHECK(tokenise(engine.prompt(), document));
    if (is_kept_whole(press)) press = Press();
    params_ = o_.executor.resolve();
    CURDKV_TRY(params_.n_ctx, check_length(engine.info(), press));

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
  // Nothing was said of compression, and the document is short.
  bool is_kept_whole(const Press& press) const {
    const bool asked = o_.press.asked_for_compression() || o_.query_aware || o_.compare_full ||
                       o_.generate.decode_budget.budget > 0;
    if (asked || press.is_none() || std::ssize(tokens_.context) >= kWorthCompressing) return false;
    note(
        format("the document has %zu tokens, too few to be worth compressing, and is kept whole "
               "(--press or --compression-ratio compresses it)",
               tokens_.context.size()));
    return true;
  }

  Result<void> tokenise(const Prompt& prompt, const std::string& document) {
    CURDKV_TRY(tokens_.context, prompt.context(document));
    for (const std::string& q : o_.questions) {
      CURDKV_TRY(auto question, prompt.question(q));
      tokens_.questions.push_back(std::move(question));
    }
    return {};
  }

  // The context limit in force. Errors: document and longest question exceed it. What is left for an answer
  // may be less than was asked for, which is said.
  Result<int64_t> check_length(const ModelInfo& model, const Press& press) const {
    const int64_t trained = model.n_ctx_train, given = o_.executor.params.n_ctx;
    const int64_t limit = given > 0 ? given : trained;
    size_t longest = 0;
    for (const auto& q : tokens_.questions) longest = std::max(longest, q.size());
    const int64_t taken = static_cast<int64_t>(tokens_.context.size() + longest), room = limit - taken;
    if (room < 0) {
      return Error{ErrorCode::bad_input,
                   format("the document is too long: %zu tokens, with the question %lld, and %s %lld (%s)",
                          tokens_.context.size(), (long long)taken,
                          given > 0 ? "-c allows" : "the model's context holds", (long long)limit,
                          mend_for(taken, trained).c_str())};
    }
    if (limit > trained) {
      note(format("-c %lld exceeds the %lld tokens the model was trained for; expect worse answers",
                  (long long)limit, (long long)trained));
    }
    const DecodeBudget& bound = o_.generate.decode_budget;
    const bool renumbered = bound.budget > 0 && press.bounds_positions() && !o_.compare_full &&
                            bound.budget + bound.interval <= room;
    const int64_t most = room + 1;  // the last token of an answer need not be read
    if (o_.generate.n_predict > most && !renumbered) {
      note(
          format("there is room for %lld tokens of an answer, not for %lld: document and question take %lld "
                 "of the %lld that %s",
                 (long long)most, (long long)o_.generate.n_predict, (long long)taken, (long long)limit,
                 given > 0 ? "-c allows" : "the model's context holds"));
    }
    return limit;
  }

  static std::string mend_for(int64_t taken, int64_t trained) {
    if (taken <= trained) {
      return format("raise -c to %lld or more; the model was trained for %lld", (long long)taken,
                    (long long)trained);
    }
    return format(
        "shorten the document, or raise -c beyond the %lld tokens the model was trained for and expect "
        "worse answers",
        (long long)trained);
  }

  Result<Reading> read(const Engine& engine, const Press& press, bool stream) {
    const InterruptScope scope;
    CURDKV_TRY(Executor executor, engine.executor(params_));
    Sequence context = executor.sequence();
    Reading r;
    r.label = press_label(press);
    const bool query_aware = o_.query_aware && !press.is_none();
    for (size_t i = 0; i < tokens_.questions.size(); ++i) {
      if (i == 0 || query_aware) {
        context.clear();
        CURDKV_CHECK(
            read_context(executor, context, press, query_aware ? &tokens_.questions[i] : nullptr, r));
        if (i == 0) write_err(reading_as_text(r));
      }
      // Each question is asked of the context alone.
      const bool last = i + 1 == tokens_.questions.size();
      Sequence asked = last ? std::move(context) : context.fork();
      CURDKV_TRY(Answer answer, ask(engine, executor, asked, press, i, stream, query_aware));
      if (query_aware) answer.question_ms = r.prefill.prefill_ms;
      r.answers.push_back(std::move(answer));
      r.kv_bytes_peak = std::max(r.kv_bytes_peak, asked.kv_bytes());
    }
    if (stream && decode_ms(r) > 0) {
      write_err(format("decode %.1f ms per token (%.1f t/s)\n", decode_ms(r), 1e3 / decode_ms(r)));
    }
    return r;
  }

  // Reads the context, and behind it the question that is to take part in the scoring, if there is one.
  Result<void> read_context(Executor& executor, Sequence& context, const Press& press,
                            const std::vector<Token>* question, Reading& r) {
    std::vector<Token> tokens = tokens_.context;
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

  Result<Answer> ask(const Engine& engine, Executor& executor, Sequence& sequence, const Press& press,
                     size_t index, bool stream, bool already_read) {
    Answer a;
    const Stopwatch watch;
    if (!already_read) CURDKV_CHECK(executor.extend(sequence, tokens_.questions[index]));
    a.question_ms = watch.ms();
    GenerateOptions options = o_.generate;
    options.decode_budget.press = press;
    if (press.is_none()) options.decode_budget.budget = 0;  // --compare-full's other side
    std::vector<Token> history = tokens_.context;
    history.insert(history.end(), tokens_.questions[index].begin(), tokens_.questions[index].end());
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
                                {"n_kept", r.n_kept},
                                {"kv_bytes_full", r.prefill.kv_bytes_full},
                                {"kv_bytes", r.prefill.kv_bytes},
                                {"kv_bytes_peak", r.kv_bytes_peak},
                                {"rss_peak_bytes", peak_rss_bytes()},
                                {"prefill_ms", r.prefill.prefill_ms},
                                {"compress_ms", r.prefill.compress_ms},
                                {"answers", nlohmann::ordered_json::array()}};
    if (press.budget()) j["budget"] = *press.budget();
    if (press.protect_last() > 0) j["protect_last"] = press.protect_last();
    if (o_.query_aware) j["query_aware"] = true;
    if (o_.generate.decode_budget.budget > 0) {
      j["decode_budget"] = o_.generate.decode_budget.budget;
      j["decode_interval"] = o_.generate.decode_budget.interval;
    }
    for (size_t i = 0; i < r.answers.size(); ++i) {
      nlohmann::ordered_json a = {{"question", o_.questions[i]}};
      a.update(answer_json(r.answers[i]));
      if (o_.compare_full) a["full"] = answer_json(full.answers[i]);
      j["answers"].push_back(a);
    }
    return write_out(j.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  }

  const RunOptions& o_;
  ExecutorParams params_;
  Prepared tokens_;
};

// Where no press is named: the recommended one, or what goes with the other options where it does not.
void choose_press(RunOptions& o) {
  const bool bounds = o.generate.decode_budget.budget > 0 && !o.press.asked_for_compression();
  const bool must_not_pack =
      o.press.request.budget || o.model.params.n_gpu_layers != 0 || !o.executor.holds_f16();
  if (!bounds && !must_not_pack) return;
  o.press.names = {bounds ? kDefaultDecodePress : kDefaultPress};
  if (!o.press.asked_for_ratio()) o.press.ratios = {kDefaultRatio};
}

// What options mean together.
void settle(RunOptions& o) {
  o.generate.draft = o.draft == "lookup" ? Draft::lookup : Draft::none;
  o.generate.sampling.seed = static_cast<uint32_t>(o.press.request.seed);
  o.generate.sampling.top_k = std::max(o.generate.sampling.top_k, 0);  // llama.cpp: -1 is all, too
  if (o.generate.n_predict < 0) o.generate.n_predict = -1;             // and -2 until the context is full
  if (!o.press.asked_for_press()) choose_press(o);
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
  app->add_option("-q,--question", o->questions,
                  "question about the document; may be given again, each is answered "
                  "from the same compressed context")
      ->type_name("TEXT")
      ->required()
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  o->prompt.add_to(*app);
  o->press.add_to(*app, kRecommended, kRecommendedRatio);
  app->footer(
      format("A document of fewer than %lld tokens is kept whole unless one of the options says how to "
             "compress it.",
             (long long)kWorthCompressing));
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
  app->add_option("--draft", o->draft,
                  "draft what may come next and check several tokens at a time, which changes no answer: "
                  "lookup (what followed where the text went alike, while it pays) or none")
      ->check(CLI::IsMember({"none", "lookup"}))
      ->capture_default_str();
  app->add_option("-n,--predict,--n-predict", o->generate.n_predict,
                  "most tokens of an answer (-1 or -2: until the model ends its turn or the context is full)")
      ->type_name("N")
      ->transform(whole_number(-2, kMostTokens))
      ->capture_default_str();
  add_sampling(*app, o->generate.sampling);
  o->executor.add_to(*app);
  app->add_flag("--json", o->json, "print one JSON object instead of text");
  return [o] {
    settle(*o);
    const auto done = Run(*o).run();
    return done ? kOk : report(done.error());
  };
}

}  // namespace curdkv::app
