// A line of results: what a model answered to a sample from a context compressed by one press at one ratio.
#pragma once

#include <optional>

#include "io/jsonl.h"

namespace curdkv::eval {

struct Timings {
  double prefill_ms = 0;   // as if the press had been alone, compression included
  double compress_ms = 0;  // scoring, selecting and compacting
};

struct Prediction {
  std::string task;
  int64_t sample = 0;
  std::string press;             // as asked for: "curdkv:sinks=9"
  double compression_ratio = 0;  // removed
  std::string prediction;
  std::vector<std::string> references;
  double score = 0;  // in [0, 1]
  int64_t n_context_tokens = 0;
  int64_t kv_bytes = 0;  // of the compressed context
  std::optional<Timings> timings;
  Json press_params;  // all of the press's parameters
  Json run;           // what else the result depends on: program, model, seed, lengths, data
};

Json to_json(const Prediction& prediction);
Result<Prediction> from_json(const JsonLine& line);

// Which of a run's predictions it is.
struct PredictionKey {
  std::string task;
  int64_t sample;
  std::string press;
  double compression_ratio;
  auto operator<=>(const PredictionKey&) const = default;
};
PredictionKey key_of(const Prediction& prediction);

}  // namespace curdkv::eval
