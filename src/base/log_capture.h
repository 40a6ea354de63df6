// ggml and libllama report through a log callback that prints by default. The library prints nothing, so
// their error lines are kept per thread instead, to be quoted in the Error that follows.
#pragma once

#include <string>

namespace curdkv {

void capture_logs();           // idempotent; called before the first use of ggml or libllama
std::string take_log_error();  // this thread's first error line since the last call, or ""

}  // namespace curdkv
