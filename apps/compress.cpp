// curdkv compress: a document is read once, its cache compressed and saved, to be asked later.
#include <filesystem>

#include "base/format.h"
#include "base/stopwatch.h"
#include "base/try.h"
#include "command.h"
#include "context_report.h"
#include "document.h"
#include "escapes.h"
#include "io/output_file.h"
#include "prompt_flags.h"
#include "questions.h"
#include "run_report.h"
#include "terminal.h"

namespace curdkv::app {
namespace {

struct CompressOptions {
  ModelOptions model;
  ExecutorOptions executor;
  PressOptions press;
  DocumentOptions document;
  PromptFlags prompt;
  std::string output;
  bool json = false;
  bool escapes = false;
};

Result<void> compress(const CompressOptions& o) {
  CURDKV_TRY(Press press, o.press.resolve(o.executor));
  ContextOrigin origin;
  CURDKV_TRY(const std::string document, o.document.read(&origin.documents));
  CURDKV_TRY(const std::string path, o.model.resolve());
  CURDKV_CHECK(check_output(o.output, inputs_of(path, o.document, o.prompt)));

  CURDKV_TRY(const Engine engine, o.prompt.open(path, o.model.params));
  CURDKV_TRY(const std::vector<Token> tokens, engine.prompt().context(document));
  press = o.press.unless_short(press, std::ssize(tokens), false);
  ExecutorParams params = o.executor.resolve();
  CURDKV_TRY(params.n_ctx, context_limit(engine.info(), params.n_ctx, std::ssize(tokens), 0));

  const InterruptScope scope;
  CURDKV_TRY(Executor executor, engine.executor(params));
  Sequence sequence = executor.sequence();
  Reading r;
  r.label = press_label(press);
  {
    ProgressBar bar("reading, " + r.label, std::ssize(tokens));
    ReadOptions options;
    options.progress = [&](int64_t done, int64_t total) { bar.update(done, total); };
    CURDKV_TRY(r.prefill, executor.read(sequence, tokens, press, options));
  }
  r.kv_bytes_peak = r.prefill.kv_bytes_peak;
  write_err(reading_as_text(r));

  const Stopwatch watch;
  origin.tokens = tokens;
  origin.press = press;
  origin.logits = !engine.prompt().is_chat();  // a template always puts something behind a question
  CURDKV_CHECK(save_context(o.output, engine, sequence, origin));
  const double save_ms = watch.ms();
  if (!o.json) {
    std::error_code gone;
    const uintmax_t n_bytes = std::filesystem::file_size(o.output, gone);
    return write_out(
        format("%s: %lld tokens saved in %.0f ms", o.output.c_str(), (long long)r.prefill.n_tokens, save_ms) +
        (gone ? "" : ", " + human_bytes(n_bytes)) + "\n");
  }
  CURDKV_TRY(const SavedContext saved, open_context(o.output));
  nlohmann::ordered_json j = {{"model", engine.info().path}, {"architecture", engine.info().architecture}};
  j.update(context_json(saved.info()));
  j["threads"] = params.n_threads;
  j["kv_bytes_peak"] = r.kv_bytes_peak;
  j["rss_peak_bytes"] = peak_rss_bytes();
  j["prefill_ms"] = r.prefill.prefill_ms;
  j["compress_ms"] = r.prefill.compress_ms;
  j["save_ms"] = save_ms;
  return write_json(j);
}

}  // namespace

Command add_compress(CLI::App& program) {
  CLI::App* app = program.add_subcommand(
      "compress", "read a document once and save its compressed cache, for 'curdkv run --context'");
  auto o = std::make_shared<CompressOptions>();
  o->model.add_to(*app);
  o->document.add_to(*app);
  app->add_option("-o,--output", o->output, "file to save the context in")->type_name("FILE")->required();
  o->prompt.add_to(*app);
  o->press.add_to(*app, kRecommended, kRecommendedRatio);
  app->add_flag("-e,--escape,!--no-escape", o->escapes,
                "take \\n, \\t, \\\", \\\\ and \\x41 in -p for what they stand for");
  o->executor.add_to(*app);
  app->add_flag("--json", o->json, "print one JSON object instead of text");
  app->footer(kShortDocuments);
  return [o] {
    if (o->escapes) o->document.unescape();
    o->press.choose(o->model, o->executor, false);
    const auto done = compress(*o);
    return done ? kOk : report(done.error());
  };
}

}  // namespace curdkv::app
