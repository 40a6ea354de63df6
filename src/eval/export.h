// Predictions as files of other evaluation programs.
#pragma once

#include <span>

#include "eval/prediction.h"

namespace curdkv::eval {

enum class ExportFormat {
  jsonl,    // our own: one file
  kvpress,  // a folder per press and ratio, with predictions.csv, metrics.json and config.yaml (evaluate.py)
  lm_eval,  // a folder per press and ratio, with results_*.json and samples_TASK_*.jsonl
            // (lm-evaluation-harness)
};

// `out` is a file for jsonl, otherwise a folder, made if need be. Errors: io with the system's reason;
// bad_input if one of `inputs` would be overwritten; then nothing is.
Result<void> export_predictions(std::span<const Prediction> predictions, ExportFormat as,
                                const std::string& out, std::span<const std::string> inputs);

}  // namespace curdkv::eval
