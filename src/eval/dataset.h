// Samples from files: LongBench's published jsonl, and RULER's as its own scripts or kvpress write it.
#pragma once

#include "curdkv/result.h"
#include "eval/sample.h"
#include "eval/task.h"

namespace curdkv::eval {

// The first n_samples rows (or all there are) of a task. Rows, by their fields:
//   context, question, answer_prefix, answer or outputs      kvpress's datasets
//   input, outputs and perhaps answer_prefix                 RULER: input is split where the question starts
//   input, context, answers, all_classes                     LongBench: put into kvpress's templates
// Rows that name another task (task, dataset) are passed over. Errors: as of read_text(); corrupt naming
// file, line and field; bad_input if no row is of the task.
Result<std::vector<Sample>> read_samples(const std::string& path, const TaskInfo& task, int64_t n_samples);

}  // namespace curdkv::eval
