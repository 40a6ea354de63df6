// The file a run appends its predictions to: a line each, whole or not at all, so that a run that was killed
// goes on where it stopped.
#pragma once

#include <set>
#include <span>

#include "base/descriptor.h"
#include "eval/prediction.h"

namespace curdkv::eval {

class ResultFile {
 public:
  // Whether open() may make or go on with this file, for who does long work first. Errors: io if it is no
  // regular file or cannot be made; bad_input if it is one of `inputs`.
  static Result<void> check(const std::string& path, std::span<const std::string> inputs);
  // Opens or creates the file and locks it against other processes. What a killed run left of a line is cut
  // off. Errors: io if it cannot be read or written, or is in use; corrupt if it holds anything but
  // predictions; bad_input if they are of a run that does not agree with `run`.
  static Result<ResultFile> open(const std::string& path, const Json& run);

  bool has(const PredictionKey& key) const { return done_.contains(key); }
  const std::vector<Prediction>& predictions() const { return predictions_; }
  // Errors: io if the disk is full, say; the file then ends with the line before.
  Result<void> append(const Prediction& prediction);

 private:
  ResultFile(std::string path, Descriptor file) : path_(std::move(path)), file_(std::move(file)) {}
  Result<void> load(const Json& run);
  Error failed(const char* doing) const;

  std::string path_;
  Descriptor file_;
  std::vector<Prediction> predictions_;
  std::set<PredictionKey> done_;
};

// Errors: as of read_text(); corrupt for a line that is no prediction; bad_input if there is none.
Result<std::vector<Prediction>> read_predictions(const std::string& path);

// Puts the results of shards together: by task (in the benchmarks' order), sample, press and ratio (in the
// order of the first file that has them), as one process would have written them. Errors: as of
// read_predictions(); bad_input if runs differ; corrupt if two files answer the same sample differently.
Result<std::vector<Prediction>> merge_predictions(std::span<const std::string> paths);

}  // namespace curdkv::eval
