// Answers samples: each context is read once, and every press at every ratio compresses a copy of it.
#pragma once

#include <functional>

#include "curdkv/engine.h"
#include "eval/metrics.h"
#include "eval/prediction.h"
#include "eval/sample.h"

namespace curdkv::eval {

struct RunnerSettings {
  int64_t max_context = 0;  // LongBench: tokens of a document; longer ones lose their middle. 0: no limit
  int64_t n_predict = 0;  // tokens of an answer at most, if the task allows more; 0: no limit but the task's
  bool kvpress_lengths = false;  // LongBench: 20 tokens more, as kvpress allows
  ScoringVariant scoring;
};

// Calls per sample: once per press, in order, `run` left empty.
using PredictionSink = std::function<Result<void>(Prediction)>;

class Runner {
 public:
  // The arguments must outlive the runner.
  // For answers that do not depend on which presses answer together, the executor decodes `in_company`.
  Runner(const Engine& engine, Executor& executor, const RunnerSettings& settings)
      : engine_(engine), executor_(executor), settings_(settings) {}

  // Question-agnostic, as kvpress's pipeline: the context is compressed, then the question comes, then the
  // answer is decoded greedily. Errors: bad_input if the context is too long for the model; as Executor's.
  Result<void> run(const TaskInfo& task, const Sample& sample, std::span<const Press> presses,
                   const Progress& progress, const PredictionSink& sink);

 private:
  struct Side {
    Sequence sequence;
    Press press;
    ReadReport report = {};
  };
  Result<std::vector<Token>> context_of(const TaskInfo& task, const Sample& sample) const;
  Result<std::string> without_middle(const std::string& text) const;
  Result<std::vector<Generation>> answer(const TaskInfo& task, std::span<Side> sides,
                                         std::span<const Token> question);
  Prediction prediction_of(const TaskInfo& task, const Sample& sample, const Side& side,
                           const Generation& generation) const;
  int64_t n_predict(const TaskInfo& task) const;

  const Engine& engine_;
  Executor& executor_;
  RunnerSettings settings_;
};

}  // namespace curdkv::eval
