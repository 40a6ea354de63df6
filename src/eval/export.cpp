#include "eval/export.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>

#include "base/format.h"
#include "base/try.h"
#include "eval/task.h"
#include "io/output_file.h"

namespace curdkv::eval {
namespace {

struct File {
  std::string path, text;
};
using OfTask = std::map<std::string, std::vector<const Prediction*>>;

std::string text_of(const Json& j, int indent) {
  return j.dump(indent, ' ', false, Json::error_handler_t::replace) + "\n";
}
std::string line_of(const Json& j) {
  return text_of(j, -1);
}

std::string csv(const std::string& field) {
  if (field.find_first_of(",\"\r\n") == std::string::npos) return field;
  std::string out = "\"";
  for (const char c : field) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

// A list of strings as Python prints it, as pandas puts it into a cell.
std::string python_list(const std::vector<std::string>& items) {
  std::string out = "[";
  for (size_t i = 0; i < items.size(); ++i) {
    const char quote =
        items[i].find('\'') != std::string::npos && items[i].find('"') == std::string::npos ? '"' : '\'';
    out += (i > 0 ? ", " : "") + std::string(1, quote);
    for (const char c : items[i]) {
      if (c == '\\' || c == quote) out += '\\';
      out += c == '\n' ? std::string("\\n") : std::string(1, c);
    }
    out += quote;
  }
  return out + "]";
}

const char* metric_name(const std::string& task) {
  const TaskInfo* info = find_task(task);
  if (info == nullptr) return "score";
  switch (info->metric) {
    case Metric::string_match_all:
    case Metric::string_match_any:
      return "string_match";
    case Metric::qa_f1:
      return "qa_f1_score";
    case Metric::rouge_l:
      return "rouge_score";
    case Metric::classification:
      return "classification_score";
    case Metric::retrieval:
      return "retrieval_score";
    case Metric::count:
      return "count_score";
    case Metric::code_similarity:
      return "code_sim_score";
  }
  return "score";
}

double mean_score(const std::vector<const Prediction*>& of_task) {
  double sum = 0;
  for (const Prediction* p : of_task) sum += p->score;
  return sum / static_cast<double>(of_task.size());
}

std::vector<File> kvpress_files(const OfTask& tasks, const Prediction& any, const std::string& folder) {
  std::string rows = "task,sample,answer,predicted_answer,compression_ratio\n";
  Json metrics;
  for (const auto& [task, of_task] : tasks) {
    for (const Prediction* p : of_task) {
      rows += task + "," + std::to_string(p->sample) + "," + csv(python_list(p->references)) + "," +
              csv(p->prediction) + format(",%.4f\n", p->compression_ratio);
    }
    const double score = std::nearbyint(1e4 * mean_score(of_task)) / 100;
    const bool ruler = find_task(task) != nullptr && find_task(task)->benchmark == Benchmark::ruler;
    metrics[task] = ruler ? Json{{metric_name(task), score}} : Json(score);
  }
  std::string config = "press_name: " + Json(any.press).dump() + "\n" +
                       format("compression_ratio: %.4f\n", any.compression_ratio);
  if (any.run.is_object()) {
    for (const auto& [name, value] : any.run.items()) config += name + ": " + value.dump() + "\n";
  }
  return {{folder + "/predictions.csv", rows},
          {folder + "/metrics.json", text_of(metrics, 4)},
          {folder + "/config.yaml", config}};
}

std::vector<File> lm_eval_files(const OfTask& tasks, const Prediction& any, const std::string& folder) {
  std::vector<File> files;
  Json results, counts;
  for (const auto& [task, of_task] : tasks) {
    const std::string metric = metric_name(task);
    const double mean = mean_score(of_task);
    double squares = 0;
    std::string lines;
    for (const Prediction* p : of_task) {
      squares += (p->score - mean) * (p->score - mean);
      lines += line_of({{"doc_id", p->sample},
                        {"target", p->references},
                        {"resps", {{p->prediction}}},
                        {"filtered_resps", {p->prediction}},
                        {metric, p->score}});
    }
    const auto n = static_cast<double>(of_task.size());
    results[task] = {{"alias", task},
                     {metric + ",none", mean},
                     {metric + "_stderr,none", n > 1 ? std::sqrt(squares / (n - 1) / n) : 0}};
    counts[task] = {{"original", of_task.size()}, {"effective", of_task.size()}};
    files.push_back({folder + "/samples_" + task + "_curdkv.jsonl", lines});
  }
  const Json whole = {
      {"results", results},
      {"n-samples", counts},
      {"config",
       {{"model", "curdkv"},
        {"model_args", format("press=%s,compression_ratio=%g", any.press.c_str(), any.compression_ratio)},
        {"run", any.run}}}};
  files.push_back({folder + "/results_curdkv.json", text_of(whole, 2)});
  return files;
}

// "curdkv:sinks=9" at 0.5: "curdkv-sinks=9__0.50".
std::string folder_name(const Prediction& p) {
  std::string name = p.press + format("__%.2f", p.compression_ratio);
  std::replace(name.begin(), name.end(), ':', '-');
  std::replace(name.begin(), name.end(), '/', '-');
  return name;
}

}  // namespace

Result<void> export_predictions(std::span<const Prediction> predictions, ExportFormat as,
                                const std::string& out, std::span<const std::string> inputs) {
  if (as == ExportFormat::jsonl) {
    CURDKV_CHECK(check_output(out, inputs));
    std::string lines;
    for (const Prediction& p : predictions) lines += line_of(to_json(p));
    return write_file(out, lines);
  }
  std::vector<File> files;
  std::map<std::string, OfTask> folders;
  for (const Prediction& p : predictions) folders[folder_name(p)][p.task].push_back(&p);
  for (const auto& [name, tasks] : folders) {
    const std::string folder = out + "/" + name;
    const Prediction& any = *tasks.begin()->second[0];
    const auto files_of = as == ExportFormat::kvpress ? kvpress_files : lm_eval_files;
    for (File& f : files_of(tasks, any, folder)) files.push_back(std::move(f));
  }
  for (const File& f : files) CURDKV_CHECK(check_is_no_input(f.path, inputs));
  for (const File& f : files) {
    const std::filesystem::path folder = std::filesystem::path(f.path).parent_path();
    std::error_code failed;
    std::filesystem::create_directories(folder, failed);
    if (failed) {
      return Error{ErrorCode::io, "cannot make folder " + folder.string() + ": " + failed.message()};
    }
    CURDKV_CHECK(write_file(f.path, f.text));
  }
  return {};
}

}  // namespace curdkv::eval
