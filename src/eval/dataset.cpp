#include "eval/dataset.h"

#include "base/try.h"
#include "eval/longbench.h"
#include "io/jsonl.h"

namespace curdkv::eval {
namespace {

// kvpress's split of a RULER prompt: the question starts at the last "What is the special magic" (or "are
// all"), the answer's beginning at "The special magic" behind it.
Result<void> split_prompt(const JsonLine& row, const std::string& prompt, Sample& out) {
  size_t at = std::string::npos;
  for (const char* start : {"What is the special magic", "What are all the special magic"}) {
    const size_t found = prompt.rfind(start);
    if (found != std::string::npos && (at == std::string::npos || found > at)) at = found;
  }
  if (at == std::string::npos) {
    return row.error("field 'input' holds no question that starts 'What is (are all) the special magic'");
  }
  const size_t prefix = std::min(prompt.find("The special magic", at), prompt.size());
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
