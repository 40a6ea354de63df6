// curdkv bench: how fast a context is read, compressed, extended and decoded from, on how much memory.
#include "measure/bench.h"

#include <optional>

#include "base/try.h"
#include "command.h"
#include "measure/format.h"
#include "numbers.h"
#include "terminal.h"

namespace curdkv::app {
namespace {

struct BenchCommand {
  ModelOptions model;
  ExecutorOptions executor;
  PressOptions press;
  measure::BenchOptions bench;
  std::vector<std::string> tests = {"prefill", "compress", "extend", "decode"};
  std::string against, output = "md";

  Result<void> run() {
    CURDKV_TRY(bench.presses, press.resolve_all(executor));
    CURDKV_TRY(const std::string path, model.resolve());
    CURDKV_TRY(const Model loaded, Model::load(path, model.params));
    for (const std::string& t : tests) bench.tests.insert(*measure::test_named(t));
    bench.against_llama_cpp = !against.empty();
    bench.executor = executor.resolve();
    bench.seed = press.request.seed;
    const InterruptScope scope;
    std::optional<TaskProgress> bar;
    bench.progress = [&](const std::string& doing, int64_t done, int64_t total) {
      if (!bar) bar.emplace("bench", "repetitions", total);
      bar->set_done(doing, done);
    };
    const measure::Setting setting = {path.substr(path.rfind('/') + 1), bench.executor.n_threads,
                                      executor.type_k, executor.type_v, CURDKV_VERSION};
    const auto format = measure::make_format(output, setting);
    const auto print = [&](const measure::Row& row) {
      bar->hide();
      return write_out(format->row(row));
    };
    CURDKV_CHECK(measure::run(loaded, bench, print));
    return write_out(format->foot());
  }
};

}  // namespace

Command add_bench(CLI::App& program) {
  CLI::App* app = program.add_subcommand(
      "bench", "measures prefill, compression, extension and decoding, beside what the machine can do");
  auto o = std::make_shared<BenchCommand>();
  o->bench.depths = {4096};
  o->bench.n_prompt = 64;
  o->bench.n_gen = 32;
  o->model.add_to(*app);
  app->add_option("-d,--depth", o->bench.depths, "tokens of context; several, separated by commas")
      ->type_name("N")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->transform(whole_number(0, int64_t{1} << 24))
      ->capture_default_str();
  app->add_option("-p,--n-prompt", o->bench.n_prompt,
                  "tokens appended to a context at once, like a question; at depth 0, read alone")
      ->type_name("N")
      ->transform(whole_number(0, int64_t{1} << 20))
      ->capture_default_str();
  app->add_option("-n,--n-gen", o->bench.n_gen, "tokens decoded one by one")
      ->type_name("N")
      ->transform(whole_number(0, int64_t{1} << 20))
      ->capture_default_str();
  app->add_option("-r,--repetitions", o->bench.n_repeat, "times that each test is done")
      ->type_name("N")
      ->transform(whole_number(1, 10000))
      ->capture_default_str();
  app->add_option("--tests", o->tests, "which of prefill, compress, extend and decode")
      ->type_name("TEST")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::IsMember({"prefill", "compress", "extend", "decode"}))
      ->capture_default_str();
  o->press.add_to(*app, "none", kDefaultRatio, true);
  app->add_option("--against", o->against,
                  "another engine that does the same work in the same process, in turn with ours")
      ->check(CLI::IsMember({"llama.cpp"}));
  app->add_option("-o,--output", o->output, "form of the results: md, csv, json or jsonl")
      ->check(CLI::IsMember({"md", "csv", "json", "jsonl"}))
      ->capture_default_str();
  o->executor.add_to(*app);
  return [o] {
    const auto done = o->run();
    return done ? kOk : report(done.error());
  };
}

}  // namespace curdkv::app
