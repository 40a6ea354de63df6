// curdkv eval: what compression costs in answers. Tasks x samples x presses x ratios; every sample's context
// is read once.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>

#include "base/format.h"
#include "base/try.h"
#include "command.h"
#include "eval/export.h"
#include "eval/result_file.h"
#include "eval/runner.h"
#include "eval/summary.h"
#include "eval_samples.h"
#include "io/output_file.h"
#include "numbers.h"
#include "prompt_flags.h"
#include "sha256.h"
#include "terminal.h"

namespace curdkv::app {
namespace {

using namespace curdkv::eval;

struct EvalOptions {
  ModelOptions model;
  ExecutorOptions executor;
  PressOptions press;
  SampleOptions samples;
  PromptFlags prompt;
  int64_t n_predict = 0;
  bool timings = false, kvpress_lengths = false;
  std::vector<std::string> scoring;
  std::string shard = "1/1", out;
  std::vector<std::string> merged;  // inputs of eval merge
  std::string format = "jsonl";     // and its output
};

// Average scores per benchmark: presses as rows, ratios as columns.
std::string averages_as_text(std::span<const Prediction> predictions) {
  std::string out;
  for (const Benchmark benchmark : {Benchmark::ruler, Benchmark::longbench}) {
    const Summary s = Summary::of(predictions, benchmark);
    if (s.empty() || !s.has(kFullCache)) continue;
    size_t width = 10;
    for (const std::string& press : s.presses()) width = std::max(width, press.size());
    const auto row = [&](const std::string& name) {
      out += name + std::string(width - std::min(width, name.size()), ' ');
    };
    row(std::string(to_string(benchmark)));
    for (const double ratio : s.ratios()) out += format("  %13.0f %%", 100 * ratio);
    out += "\n";
    row("full cache");
    const Interval full = s.average(kFullCache);
    out += format("  %5.1f (%3.0f-%3.0f)\n", full.mean, full.low, full.high);
    for (const std::string& press : s.presses()) {
      row(press);
      for (const double ratio : s.ratios()) {
        const bool there = s.has({press, ratio});
        const Interval i = there ? s.average({press, ratio}) : Interval();
        out += there ? format("  %5.1f (%3.0f-%3.0f)", i.mean, i.low, i.high) : std::string(17, ' ');
      }
      out += "\n";
    }
    if (s.n_left_out() > 0) {
      out += format("(%lld samples left out that not every press has answered)\n", (long long)s.n_left_out());
    }
  }
  return out.empty() ? out : out + "average score over tasks, in percent, by share removed (95 % interval)\n";
}

class Eval {
 public:
  explicit Eval(const EvalOptions& options) : o_(options) {}

  Result<void> run() {
    CURDKV_CHECK(check_usage());
    CURDKV_TRY(const std::vector<const TaskInfo*> tasks, o_.samples.resolve_tasks());
    CURDKV_CHECK(collect_presses());
    CURDKV_TRY(const std::string path, o_.model.resolve());
    std::vector<std::string> inputs = o_.samples.files(tasks);
    inputs.push_back(path);
    for (const std::string& file : o_.prompt.files()) inputs.push_back(file);
    CURDKV_CHECK(ResultFile::check(o_.out, inputs));
    CURDKV_TRY(const Engine engine, o_.prompt.open(path, o_.model.params));
    CURDKV_TRY(const Json run, describe(path));
    CURDKV_TRY(ResultFile results, ResultFile::open(o_.out, run));

    const InterruptScope scope;
    CURDKV_CHECK(collect_samples(tasks, engine.tokenizer(), results));
    ExecutorParams params = o_.executor.resolve();
    params.in_company = true;
    CURDKV_TRY(Executor executor, engine.executor(params));
    Runner runner(engine, executor, runner_settings());
    TaskProgress progress("evaluating", "predictions", n_left_);
    for (const Work& work : work_) {
      const Progress reading = [&](int64_t done, int64_t total) {
        progress.update("reading " + work.sample.task + " " + std::to_string(work.sample.index), done, total);
      };
      CURDKV_CHECK(runner.run(*work.task, work.sample, work.presses, reading, [&](Prediction p) {
        p.run = run;
        if (!o_.timings) p.timings.reset();
        progress.add_done("answering " + work.sample.task + " " + std::to_string(work.sample.index));
        return results.append(p);
      }));
    }
    write_err(format("%zu predictions in %s\n", results.predictions().size(), o_.out.c_str()));
    return write_out(averages_as_text(results.predictions()));
  }

 private:
  struct Work {
    const TaskInfo* task;
    Sample sample;
    std::vector<Press> presses;  // those that have not answered yet
  };

  Result<void> check_usage() {
    if (o_.out.empty()) return Error{ErrorCode::bad_argument, "--output is required: the file of results"};
    if (o_.press.request.budget) {
      return Error{ErrorCode::bad_argument, "--budget is not for eval; give a --compression-ratio"};
    }
    char rest = 0;
    if (std::sscanf(o_.shard.c_str(), "%lld/%lld%c", &shard_, &n_shards_, &rest) != 2 || shard_ < 1 ||
        shard_ > n_shards_) {
      return Error{ErrorCode::bad_argument,
                   "--shard is I/N, the part and the number of parts, as in 1/4; not '" + o_.shard + "'"};
    }
    return {};
  }

  // The full cache and every press at every ratio, each once.
  Result<void> collect_presses() {
    CURDKV_TRY(const std::vector<Press> asked, o_.press.resolve_all(o_.executor));
    presses_ = {Press()};
    for (const Press& p : asked) {
      if (!p.is_none()) presses_.push_back(p);
    }
    return {};
  }

  Result<Json> describe(const std::string& model_path) const {
    CURDKV_TRY(const std::string hash, sha256_of_file(model_path));
    Json run = {{"curdkv", CURDKV_VERSION},
                {"model", std::filesystem::path(model_path).filename().string()},
                {"model_sha256", hash},
                {"seed", o_.press.request.seed},
                {"context_tokens", o_.samples.n_context},
                {"predict", o_.n_predict},
                {"chat", !o_.prompt.raw},
                {"cache_types", o_.executor.type_k + " " + o_.executor.type_v},
                {"scoring", o_.scoring}};
    if (o_.press.request.protect_last > 0) run["protect_last"] = o_.press.request.protect_last;
    if (o_.kvpress_lengths) run["kvpress_lengths"] = true;
    CURDKV_TRY(const PromptOptions prompt, o_.prompt.options());
    run["system"] = prompt.system;  // "": the template's own
    if (!prompt.chat_template.source.empty()) run["chat_template"] = prompt.chat_template.source;
    run.update(o_.samples.describe());
    return run;
  }

  RunnerSettings runner_settings() const {
    RunnerSettings s;
    s.max_context = o_.samples.n_context;
    s.n_predict = o_.n_predict;
    s.kvpress_lengths = o_.kvpress_lengths;
    for (const std::string& variant : o_.scoring) {
      if (variant == "kvpress-head") s.scoring.kvpress_head = true;
      if (variant == "levenshtein") s.scoring.levenshtein = true;
      if (variant == "nvidia-ruler") s.scoring.nvidia_ruler = true;
    }
    return s;
  }

  // What this shard has to do and the file does not hold yet.
  Result<void> collect_samples(const std::vector<const TaskInfo*>& tasks, const Tokenizer& tokenizer,
                               const ResultFile& results) {
    int64_t i_task = 0;
    for (const TaskInfo* task : tasks) {
      CURDKV_TRY(std::vector<Sample> samples, o_.samples.load(*task, tokenizer, o_.press.request.seed));
      if (std::ssize(samples) < o_.samples.n_samples) {
        note(format("%s has %zu samples, fewer than the %lld asked for", std::string(task->name).c_str(),
                    samples.size(), (long long)o_.samples.n_samples));
      }
      for (Sample& sample : samples) {
        // A sample's shard does not depend on how many there are, so that more can be asked for later.
        if ((i_task + sample.index) % n_shards_ != shard_ - 1) continue;
        Work work = {task, std::move(sample), {}};
        for (const Press& p : presses_) {
          if (!results.has({work.sample.task, work.sample.index, p.spec(), p.compression_ratio()})) {
            work.presses.push_back(p);
          }
        }
        n_left_ += std::ssize(work.presses);
        if (!work.presses.empty()) work_.push_back(std::move(work));
      }
      ++i_task;
    }
    return {};
  }

  const EvalOptions& o_;
  long long shard_ = 1, n_shards_ = 1;
  std::vector<Press> presses_;
  std::vector<Work> work_;
  int64_t n_left_ = 0;  // predictions
};

const std::map<std::string, ExportFormat> kFormats = {
    {"jsonl", ExportFormat::jsonl}, {"kvpress", ExportFormat::kvpress}, {"lm-eval", ExportFormat::lm_eval}};

Result<void> run_merge(const EvalOptions& o) {
  if (o.format == "jsonl") CURDKV_CHECK(check_output(o.out, o.merged));
  CURDKV_TRY(const std::vector<Prediction> all, merge_predictions(o.merged));
  CURDKV_CHECK(export_predictions(all, kFormats.at(o.format), o.out, o.merged));
  write_err(format("%zu predictions in %s\n", all.size(), o.out.c_str()));
  return {};
}

const CLI::App* add_merge(CLI::App& eval, EvalOptions& o) {
  CLI::App* app =
      eval.add_subcommand("merge", "joins the results of shards, or writes them as other programs do");
  app->add_option("inputs", o.merged, "files of results")->type_name("FILE")->required();
  app->add_option("-o,--output", o.out, "where to: a file, or a folder for the other formats")
      ->type_name("PATH")
      ->required();
  app->add_option("--format", o.format,
                  "jsonl, or the files of kvpress's evaluate.py or lm-evaluation-harness")
      ->check(CLI::IsMember(kFormats))
      ->capture_default_str();
  return app;
}

}  // namespace

Command add_eval(CLI::App& program) {
  CLI::App* app = program.add_subcommand(
      "eval",
      "answers of RULER's and LongBench's tasks from compressed contexts, scored; see 'curdkv report'");
  auto o = std::make_shared<EvalOptions>();
  o->model.add_to(*app);
  o->samples.add_to(*app);
  o->press.add_to(*app, kDefaultPress, kDefaultRatio, true);
  app->add_option("-n,--predict,--n-predict", o->n_predict,
                  "most tokens of an answer, where the task allows more (0 or -1: what the task allows)")
      ->type_name("N")
      ->transform(whole_number(-2, kMostTokens))
      ->capture_default_str();
  app->add_option("-o,--output", o->out,
                  "results, a JSON line per prediction; a run that was stopped goes on where it was")
      ->type_name("FILE");
  app->add_option("--shard", o->shard, "do the I-th of N parts; 'curdkv eval merge' joins them")
      ->type_name("I/N")
      ->capture_default_str();
  app->add_option("--scoring", o->scoring,
                  "score as other implementations do: kvpress-head, levenshtein, nvidia-ruler")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::IsMember({"kvpress-head", "levenshtein", "nvidia-ruler"}));
  app->add_flag("--kvpress-lengths", o->kvpress_lengths,
                "LongBench: answers may be 20 tokens longer than LongBench has them, as in kvpress");
  o->prompt.add_to(*app);
  app->add_flag("--timings", o->timings,
                "record times too; without them, the same settings give the same file, byte for byte");
  o->executor.add_to(*app);
  const CLI::App* merge = add_merge(*app, *o);
  return [o, merge] {
    o->n_predict = std::max<int64_t>(o->n_predict, 0);
    const auto done = merge->parsed() ? run_merge(*o) : Eval(*o).run();
    return done ? kOk : report(done.error());
  };
}

}  // namespace curdkv::app
