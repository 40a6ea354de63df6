// The benchmarks' tasks: what they are called, how long answers may be, how they are scored.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace curdkv::eval {

enum class Benchmark { ruler, longbench };
enum class Metric {
  string_match_all,  // share of the references found
  string_match_any,
  qa_f1,
  rouge_l,
  classification,
  retrieval,
  count,
  code_similarity
};

struct TaskInfo {
  std::string_view name;        // as in files: "niah_single_1"
  std::string_view paper_name;  // as in the CurDKV paper's tables: "S-1"
  Benchmark benchmark;
  Metric metric;
  int64_t n_predict;     // most tokens of an answer: RULER's 128, LongBench's own
  bool first_line_only;  // of the prediction is scored
};

// In the order of the paper's tables.
std::span<const TaskInfo> list_tasks();
const TaskInfo* find_task(std::string_view name);  // null if there is none of that name
std::string_view to_string(Benchmark benchmark);

}  // namespace curdkv::eval
