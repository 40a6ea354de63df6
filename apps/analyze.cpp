// curdkv analyze: what compression does to a model's cache on one document, as figures for 'curdkv report'.
#include <algorithm>
#include <map>

#include "analysis/figure.h"
#include "base/nearest.h"
#include "base/try.h"
#include "base/utf8.h"
#include "command.h"
#include "document.h"
#include "io/output_file.h"
#include "numbers.h"
#include "prompt_flags.h"
#include "terminal.h"

namespace curdkv::app {
namespace {

struct AnalyzeOptions {
  ModelOptions model;
  ExecutorOptions executor;
  PressOptions press;
  DocumentOptions document;
  PromptFlags prompt;
  std::vector<std::string> figures = {"document"};
  std::string out;
  int64_t n_layers = 4, n_heads = 4;
};

// The text of each token; a character that takes several is the last one's.
std::vector<std::string> pieces_of(const Tokenizer& tokenizer, std::span<const Token> tokens) {
  Utf8Stream stream;
  std::vector<std::string> out;
  for (const Token t : tokens) out.push_back(stream.push(tokenizer.piece(t)));
  return out;
}

// What is wrong with the name of a figure, or "".
std::string check_figure(const std::string& name) {
  std::vector<std::string> names;
  for (const auto& f : analysis::list_figures()) {
    if (name == f.name) return "";
    names.emplace_back(f.name);
  }
  // Figures of the paper that 'curdkv report' draws, and what measures them.
  const std::map<std::string, std::string> others = {{"ablation", "eval --press ablation"},
                                                     {"runtime", "bench"}};
  if (const auto other = others.find(name); other != others.end()) {
    return "figure '" + name + "' is not made here: 'curdkv report' draws it from what 'curdkv " +
           other->second + "' measures";
  }
  std::string there_are;
  for (const std::string& n : names) there_are += (there_are.empty() ? "" : ", ") + n;
  const std::string meant = nearest(name, names);
  return "there is no figure '" + name + "' (" + (meant.empty() ? "" : "did you mean '" + meant + "'? ") +
         "there are: " + there_are + ")";
}

Result<void> run(const AnalyzeOptions& o) {
  CURDKV_TRY(std::vector<Press> presses, o.press.resolve_all(o.executor));
  std::erase_if(presses, [](const Press& p) { return p.is_none(); });
  for (const auto& f : analysis::list_figures()) {
    const bool asked = std::find(o.figures.begin(), o.figures.end(), f.name) != o.figures.end();
    if (asked && f.needs_press && presses.empty()) {
      return Error{ErrorCode::bad_argument,
                   "figure '" + std::string(f.name) + "' needs a press that evicts (--press NAME)"};
    }
  }
  CURDKV_TRY(const std::string path, o.model.resolve());
  if (o.out != "-") CURDKV_CHECK(check_output(o.out, inputs_of(path, o.document, o.prompt)));
  CURDKV_TRY(const std::string document, o.document.read());
  CURDKV_TRY(const Engine engine, o.prompt.open(path, o.model.params));
  CURDKV_TRY(const std::vector<Token> tokens, engine.prompt().context(document));

  const InterruptScope scope;
  const ExecutorParams params = o.executor.resolve();
  CURDKV_TRY(Executor executor, engine.executor(params));
  ReadOptions options;
  ProgressBar bar("analysing", std::ssize(tokens));
  options.progress = [&](int64_t done, int64_t total) { bar.update(done, total); };
  const ModelInfo& info = engine.info();
  analysis::Subject subject = {.model = info.path.substr(info.path.rfind('/') + 1),
                               .n_layer = info.n_layer,
                               .n_head = info.n_head,
                               .n_head_kv = info.n_head_kv,
                               .tokens = pieces_of(engine.tokenizer(), tokens),
                               .presses = std::move(presses),
                               .n_threads = params.n_threads,
                               .stop = params.stop,
                               .n_sampled_layers = o.n_layers,
                               .n_sampled_heads = o.n_heads};
  CURDKV_TRY(const std::vector<analysis::Json> figures,
             analysis::make_figures(executor, tokens, subject, o.figures, options));
  std::string text;
  for (const analysis::Json& figure : figures) {
    text += figure.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  }
  return o.out == "-" ? write_out(text) : write_file(o.out, text);
}

std::string figure_help() {
  std::string help = "several, separated by commas, come from one reading:";
  for (const auto& f : analysis::list_figures()) {
    help += std::string("\n") + f.name + ": " + f.summary + (f.needs_press ? " (not with --press none)" : "");
  }
  return help;
}

}  // namespace

Command add_analyze(CLI::App& program) {
  CLI::App* app = program.add_subcommand(
      "analyze", "what presses do to a document's cache, as data for the figures of 'curdkv report'");
  auto o = std::make_shared<AnalyzeOptions>();
  o->model.add_to(*app);
  o->document.add_to(*app);
  o->prompt.add_to(*app);
  o->press.add_to(*app, kDefaultPress, kDefaultRatio, true);
  app->add_option("--figure", o->figures, figure_help())
      ->type_name("NAME")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(check_figure)
      ->capture_default_str();
  app->add_option("--sampled-layers", o->n_layers, "attention-vs-loss: layers looked at, evenly spaced")
      ->type_name("N")
      ->transform(whole_number(1, 1 << 16))
      ->capture_default_str();
  app->add_option("--sampled-heads", o->n_heads, "attention-vs-loss: query heads of each, evenly spaced")
      ->type_name("N")
      ->transform(whole_number(1, 1 << 16))
      ->capture_default_str();
  app->add_option("-o,--output", o->out, "JSON, a line for each figure (-: standard output)")
      ->type_name("FILE")
      ->required();
  o->executor.add_to(*app);
  return [o] {
    const auto done = run(*o);
    return done ? kOk : report(done.error());
  };
}

}  // namespace curdkv::app
