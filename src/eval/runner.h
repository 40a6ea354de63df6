// Answers samples: each context is read once, and every press at every ratio compresses a copy of it.
#pragma once

#include <functional>

#include "curdkv/generate.h"
#include "curdkv/text.h"
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
  Runner(const Model& model, Executor& executor, const Tokenizer& tokenizer, const Prompt& prompt,
         const RunnerSettings& settings)
      : model_(model), executor_(executor), tokenizer_(tokenizer), prompt_(prompt), settings_(settings) {}

  // Question-agnostic, as kvpress's pipeline: the context is compressed, then the question comes, then the
  // answer is decoded greedily. Errors: bad_input if the context is too long for the model; as Executor's.
  Result<void> run(const TaskInfo& task, const Sample& sample, std::span<const Press> presses,
                   const Progress& progress, const PredictionSink& sink);

 private:
  struct Side {
    Sequence sequence;
    Press press;
    ReadReport report = {};
    size_t kv_bytes = 0;  // of the compressed context
  };
  Result<std::vector<Token>> context_of(const TaskInfo& task, const Sample& sample) const;
  Result<std::string> without_middle(const std::string& text) const;
  Result<std::vector<Generation>> answer(const TaskInfo& task, std::span<Side> sides,
                                         std::span<const Token> question);
  Prediction prediction_of(const TaskInfo& task, const Sample& sample, const Side& side,
                           const Generation& generation) const;
  int64_t n_predict(const TaskInfo& task) const;

  const Model& model_;
  Executor& executor_;
  const Tokenizer& tokenizer_;
  const Prompt& prompt_;
  RunnerSettings settings_;
};

}  // namespace curdkv::eval
