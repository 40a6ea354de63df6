// curdkv calibrate: what answers lose with every KV head of a model, measured once; --heads takes the file.
#include <algorithm>

#include "analysis/head_losses.h"
#include "base/format.h"
#include "base/try.h"
#include "command.h"
#include "document.h"
#include "eval/builtin.h"
#include "io/output_file.h"
#include "numbers.h"
#include "prompt_flags.h"
#include "terminal.h"

namespace curdkv::app {
namespace {

struct CalibrateOptions {
  ModelOptions model;
  ExecutorOptions executor;
  DocumentOptions document;
  PromptFlags prompt;
  int64_t n_samples = 8, n_context = 1024, seed = 42;
  std::string out;
};

// "layer 16, head 1: 32 %", those that answers lose most with.
std::string most_of(const analysis::PerHead& loss, size_t count) {
  std::vector<std::pair<double, std::string>> heads;
  double sum = 0;
  for (size_t il = 0; il < loss.size(); ++il) {
    for (size_t h = 0; h < loss[il].size(); ++h) {
      heads.emplace_back(loss[il][h], format("layer %zu, head %zu", il, h));
      sum += loss[il][h];
    }
  }
  std::stable_sort(heads.begin(), heads.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  std::string out = format("%zu KV heads; what answers lose without one:\n", heads.size());
  for (size_t i = 0; i < std::min(count, heads.size()); ++i)
    out += format("  %s: %.1f %% of all\n", heads[i].second.c_str(), 100 * heads[i].first / sum);
  return out;
}

Result<void> run(const CalibrateOptions& o) {
  CURDKV_TRY(const std::string path, o.model.resolve());
  if (o.out != "-") CURDKV_CHECK(check_output(o.out, inputs_of(path, o.document, o.prompt)));
  std::string text(eval::kBuiltinHaystack);
  if (!o.document.empty()) {
    CURDKV_TRY(text, o.document.read());
  }
  CURDKV_TRY(const eval::Haystack haystack, eval::Haystack::from_text(text));
  CURDKV_TRY(const Engine engine, o.prompt.open(path, o.model.params));
  const eval::WordList names(eval::kBuiltinAdjectives, eval::kBuiltinNouns);
  constexpr double kWordsPerToken = 0.7;
  const auto lookups = analysis::make_lookups(
      haystack, names, static_cast<int64_t>(kWordsPerToken * static_cast<double>(o.n_context)), o.n_samples,
      static_cast<uint32_t>(o.seed));

  const InterruptScope scope;
  CURDKV_TRY(Executor executor, engine.executor(o.executor.resolve()));
  ProgressBar bar("calibrating", 1);
  CURDKV_TRY(const analysis::HeadLosses losses,
             analysis::measure_head_losses(executor, engine, lookups,
                                           [&](int64_t done, int64_t all) { bar.update(done, all); }));
  nlohmann::ordered_json json = {{"model", path.substr(path.rfind('/') + 1)},
                                 {"curdkv", CURDKV_VERSION},
                                 {"n_samples", o.n_samples},
                                 {"context_tokens", o.n_context},
                                 {"seed", o.seed},
                                 {"weight", analysis::head_weights_of(losses)},
                                 {"loss", losses.loss},
                                 {"worth", losses.worth}};
  if (o.out == "-") return write_out(json.dump() + "\n");
  CURDKV_CHECK(write_file(o.out, json.dump() + "\n"));
  return write_out(most_of(losses.loss, 6));
}

}  // namespace

Command add_calibrate(CLI::App& program) {
  CLI::App* app = program.add_subcommand(
      "calibrate", "which KV heads of a model its answers depend on: once for every model");
  auto o = std::make_shared<CalibrateOptions>();
  o->model.add_to(*app);
  o->document.add_to(*app);
  o->prompt.add_to(*app);
  app->add_option("--samples", o->n_samples,
                  "questions about the text, each asked without every head in turn")
      ->type_name("N")
      ->transform(whole_number(2, 1 << 16))
      ->capture_default_str();
  app->add_option("--context-tokens", o->n_context, "about as many tokens of text to every question")
      ->type_name("N")
      ->transform(whole_number(128, 1 << 20))
      ->capture_default_str();
  app->add_option("-s,--seed", o->seed, "of the samples")
      ->type_name("N")
      ->transform(whole_number(0, (int64_t{1} << 32) - 1))
      ->capture_default_str();
  app->add_option("-o,--output", o->out, "JSON (-: standard output)")->type_name("FILE")->required();
  o->executor.add_to(*app);
  return [o] {
    const auto done = run(*o);
    return done ? kOk : report(done.error());
  };
}

}  // namespace curdkv::app
