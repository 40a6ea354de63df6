#include "eval/summary.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "eval/metrics.h"

namespace curdkv::eval {

Summary Summary::of(std::span<const Prediction> predictions, Benchmark benchmark) {
  Summary out;
  std::map<std::pair<const TaskInfo*, int64_t>, std::map<Method, const Prediction*>> samples;
  std::set<Method> methods;
  for (const Prediction& p : predictions) {
    const TaskInfo* task = find_task(p.task);
    if (task == nullptr || task->benchmark != benchmark) continue;
    const Method method = {p.press, p.compression_ratio};
    samples[{task, p.sample}][method] = &p;
    methods.insert(method);
    if (method == kFullCache) continue;
    if (std::find(out.presses_.begin(), out.presses_.end(), p.press) == out.presses_.end()) {
      out.presses_.push_back(p.press);
    }
    if (std::find(out.ratios_.begin(), out.ratios_.end(), p.compression_ratio) == out.ratios_.end()) {
      out.ratios_.push_back(p.compression_ratio);
    }
  }
  std::sort(out.ratios_.begin(), out.ratios_.end());
  for (const auto& [key, answers] : samples) {  // tasks lie in one array, in their order
    if (answers.size() < methods.size()) {
      ++out.n_left_out_;
      continue;
    }
    if (out.tasks_.empty() || out.tasks_.back() != key.first) out.tasks_.push_back(key.first);
    for (const auto& [method, p] : answers) out.by_method_[method][key.first].push_back(p);
  }
  return out;
}

const Summary::OfTask& Summary::cell(const Method& method, const TaskInfo& task) const {
  return by_method_.at(method).at(&task);
}

std::vector<double> Summary::scores(const Method& method, const TaskInfo& task) const {
  std::vector<double> out;
  for (const Prediction* p : cell(method, task)) out.push_back(100 * p->score);
  return out;
}

double Summary::mean(const Method& method, const TaskInfo& task) const {
  const std::vector<double> all = scores(method, task);
  return std::accumulate(all.begin(), all.end(), 0.0) / static_cast<double>(all.size());
}

size_t Summary::n_samples(const TaskInfo& task) const {
  return cell(by_method_.begin()->first, task).size();
}

Interval Summary::score(const Method& method, const TaskInfo& task) const {
  const std::vector<double> one = scores(method, task);
  return bootstrap(std::span(&one, 1));
}

Interval Summary::average(const Method& method) const {
  std::vector<std::vector<double>> all;
  for (const TaskInfo* task : tasks_) all.push_back(scores(method, *task));
  return bootstrap(all);
}

double Summary::fidelity(const Method& method) const {
  double sum = 0;
  int n = 0;
  for (const TaskInfo* task : tasks_) {
    const double full = mean(kFullCache, *task);
    if (full == 0) continue;
    sum += mean(method, *task) / full;
    ++n;
  }
  return n > 0 ? 100 * sum / n : 0;
}

double Summary::output_fidelity(const Method& method) const {
  double sum = 0;
  for (const TaskInfo* task : tasks_) {
    const OfTask &answers = cell(method, *task), &full = cell(kFullCache, *task);
    double of_task = 0;
    for (size_t i = 0; i < answers.size(); ++i) {
      const std::string &a = answers[i]->prediction, &b = full[i]->prediction;
      of_task += a == b ? 1 : qa_f1(a, b);
    }
    sum += of_task / static_cast<double>(answers.size());
  }
  return 100 * sum / static_cast<double>(tasks_.size());
}

double Summary::mean_kv_bytes(const Method& method) const {
  double sum = 0, n = 0;
  for (const auto& [task, answers] : by_method_.at(method)) {
    for (const Prediction* p : answers) sum += static_cast<double>(p->kv_bytes), ++n;
  }
  return sum / n;
}

double Summary::mean_share_of_bytes(const Method& method) const {
  double sum = 0, n = 0;
  for (const TaskInfo* task : tasks_) {
    const OfTask &answers = cell(method, *task), &full = cell(kFullCache, *task);
    for (size_t i = 0; i < answers.size(); ++i) {
      if (full[i]->kv_bytes <= 0) continue;
      sum += static_cast<double>(answers[i]->kv_bytes) / static_cast<double>(full[i]->kv_bytes), ++n;
    }
  }
  return n > 0 ? sum / n : 0;
}

std::optional<Timings> Summary::mean_timings(const Method& method) const {
  Timings sum;
  double n = 0;
  for (const auto& [task, answers] : by_method_.at(method)) {
    for (const Prediction* p : answers) {
      if (!p->timings) return std::nullopt;
      sum.prefill_ms += p->timings->prefill_ms;
      sum.compress_ms += p->timings->compress_ms;
      ++n;
    }
  }
  return Timings{sum.prefill_ms / n, sum.compress_ms / n};
}

std::vector<std::string> Summary::presses_at(double ratio) const {
  std::vector<std::string> out;
  for (const std::string& press : presses_) {
    if (has({press, ratio})) out.push_back(press);
  }
  return out;
}

std::optional<Friedman> Summary::test(double ratio) const {
  const std::vector<std::string> presses = presses_at(ratio);
  std::vector<std::vector<double>> values;
  for (const TaskInfo* task : tasks_) {
    values.emplace_back();
    for (const std::string& press : presses) values.back().push_back(mean({press, ratio}, *task));
  }
  return friedman(values);
}

}  // namespace curdkv::eval
