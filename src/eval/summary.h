// What a file of predictions says about one benchmark: scores by press, ratio and task.
#pragma once

#include <map>
#include <string>

#include "eval/prediction.h"
#include "eval/statistics.h"
#include "eval/task.h"

namespace curdkv::eval {

// A press at a ratio; the full cache is {"none", 0}.
struct Method {
  std::string press;
  double ratio = 0;
  auto operator<=>(const Method&) const = default;
};

inline const Method kFullCache = {"none", 0};

class Summary {
 public:
  // Samples that not every method has answered are left out, so that all are compared on the same ones.
  static Summary of(std::span<const Prediction> predictions, Benchmark benchmark);

  bool empty() const { return tasks_.empty(); }
  const std::vector<const TaskInfo*>& tasks() const { return tasks_; }  // as the paper orders them
  const std::vector<std::string>& presses() const { return presses_; }  // as the file does, without none
  const std::vector<double>& ratios() const { return ratios_; }         // ascending
  int64_t n_left_out() const { return n_left_out_; }                    // samples
  size_t n_samples(const TaskInfo& task) const;
  bool has(const Method& method) const { return by_method_.contains(method); }

  // Scores and fidelity in percent. The method must be there.
  Interval score(const Method& method, const TaskInfo& task) const;
  Interval average(const Method& method) const;  // over tasks
  // Mean over tasks of the score relative to the full cache's, leaving out tasks where that is 0; the paper
  // gives no definition.
  double fidelity(const Method& method) const;
  // Word F1 of the answers against the full cache's answers.
  double output_fidelity(const Method& method) const;
  double mean_kv_bytes(const Method& method) const;
  // Mean over samples of the method's bytes as a share of the full cache's of the same sample, which must be
  // there.
  double mean_share_of_bytes(const Method& method) const;
  std::optional<Timings> mean_timings(const Method& method) const;

  // Over tasks, between the presses that were run at this ratio, in the order of presses().
  std::optional<Friedman> test(double ratio) const;
  std::vector<std::string> presses_at(double ratio) const;

 private:
  using OfTask = std::vector<const Prediction*>;  // by sample
  const OfTask& cell(const Method& method, const TaskInfo& task) const;
  std::vector<double> scores(const Method& method, const TaskInfo& task) const;
  double mean(const Method& method, const TaskInfo& task) const;  // without the interval

  std::vector<const TaskInfo*> tasks_;
  std::vector<std::string> presses_;
  std::vector<double> ratios_;
  std::map<Method, std::map<const TaskInfo*, OfTask>> by_method_;
  int64_t n_left_out_ = 0;
};

}  // namespace curdkv::eval
