#include "eval/dataset.h"

#include <algorithm>

#include "base/try.h"
#include "eval/longbench.h"
#include "io/jsonl.h"

namespace curdkv::eval {
namespace {

// Where kvpress splits the prompts of RULER's tasks: the question starts at the last place that says one of
// these, the answer's beginning at the first one behind it.
struct Border {
  std::string_view task;  // or how the names of several start
  std::vector<std::string_view> question;
  std::string_view answer;
};
const Border kBorders[] = {
    {"niah_", {"What is the special magic", "What are all the special magic"}, "The special magic"},
    {"vt", {"Question: Find all variables that are assigned the value"}, "Answer:"},
    {"cwe", {"Question: What are the 10 most common words in the above list?"}, "Answer:"},
    {"fwe", {"Question: Do not provide any explanation."}, "Answer:"},
    {"qa_", {"Answer the question based on the given documents."}, "Answer:"},
};

Result<void> split_prompt(const JsonLine& row, const std::string& prompt, Sample& out) {
  const auto* border = std::find_if(std::begin(kBorders), std::end(kBorders),
                                    [&](const Border& b) { return out.task.starts_with(b.task); });
  size_t at = std::string::npos;
  for (const std::string_view start : border->question) {
    const size_t found = prompt.rfind(start);
    if (found != std::string::npos && (at == std::string::npos || found > at)) at = found;
  }
  if (at == std::string::npos) {
    return row.error("field 'input' holds no question that starts '" + std::string(border->question.front()) +
                     "'");
  }
  const size_t prefix = std::min(prompt.find(border->answer, at), prompt.size());
  out.context = prompt.substr(0, at);
  out.question = prompt.substr(at, prefix - at);
  out.answer_prefix = prompt.substr(prefix);
  return {};
}

Result<void> read_ruler(const JsonLine& row, Sample& out) {
  if (row.has("context")) {
    CURDKV_TRY(out.context, row.text("context"));
    CURDKV_TRY(out.question, row.text("question"));
    CURDKV_TRY(out.answer_prefix, row.text("answer_prefix"));
  } else {
    CURDKV_TRY(std::string prompt, row.text("input"));
    if (row.has("answer_prefix")) {
      CURDKV_TRY(const std::string prefix, row.text("answer_prefix"));
      prompt += prefix;
    }
    CURDKV_CHECK(split_prompt(row, prompt, out));
  }
  CURDKV_TRY(out.references, row.texts(row.has("answer") ? "answer" : "outputs"));
  return {};
}

Result<void> read_longbench(const JsonLine& row, Sample& out) {
  CURDKV_TRY(const std::string context, row.text("context"));
  CURDKV_TRY(const std::string input, row.text("input"));
  CURDKV_CHECK(fill_templates(out.task, context, input, out));
  CURDKV_TRY(out.references, row.texts("answers"));
  if (row.has("all_classes")) {
    CURDKV_TRY(out.classes, row.texts("all_classes"));
  }
  return {};
}

// Whether the row is of another task, by the field that names it.
Result<bool> of_other_task(const JsonLine& row, const TaskInfo& task) {
  const char* field = task.benchmark == Benchmark::ruler ? "task" : "dataset";
  if (!row.has(field)) return false;
  CURDKV_TRY(const std::string name, row.text(field));
  return name != task.name;
}

}  // namespace

Result<std::vector<Sample>> read_samples(const std::string& path, const TaskInfo& task, int64_t n_samples) {
  CURDKV_TRY(const std::vector<JsonLine> rows, read_jsonl(path));
  std::vector<Sample> out;
  for (const JsonLine& row : rows) {
    if (std::ssize(out) == n_samples) break;
    CURDKV_TRY(const bool other, of_other_task(row, task));
    if (other) continue;
    Sample sample;
    sample.task = task.name;
    sample.index = std::ssize(out);
    sample.origin = row.place();
    CURDKV_CHECK(task.benchmark == Benchmark::ruler ? read_ruler(row, sample) : read_longbench(row, sample));
    out.push_back(std::move(sample));
  }
  if (out.empty()) return Error{ErrorCode::bad_input, path + " has no sample of " + std::string(task.name)};
  return out;
}

}  // namespace curdkv::eval
