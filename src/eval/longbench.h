// LongBench's prompts, as kvpress divides them: what is compressed, what is asked, how the answer begins.
#pragma once

#include <string_view>

#include "curdkv/result.h"
#include "eval/sample.h"

namespace curdkv::eval {

// Puts a row's context and input into the task's templates. Errors: internal for a task without templates.
Result<void> fill_templates(std::string_view task, const std::string& context, const std::string& input,
                            Sample& out);

}  // namespace curdkv::eval
