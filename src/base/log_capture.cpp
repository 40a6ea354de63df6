#include "base/log_capture.h"

#include <llama.h>

#include <cstring>
#include <mutex>

namespace curdkv {
namespace {

// Plain memory: it is written to when there is none left, and by threads that ggml starts and ends.
thread_local char first_error[512];

void on_log(ggml_log_level level, const char* text, void*) {
  if (level == GGML_LOG_LEVEL_ERROR && first_error[0] == '\0')
    std::strncpy(first_error, text, sizeof first_error - 1);
}

}  // namespace

void capture_logs() {
  static std::once_flag once;
  std::call_once(once, [] { llama_log_set(on_log, nullptr); });
}

std::string take_log_error() {
  std::string text = first_error;
  first_error[0] = '\0';
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  return text;
}

}  // namespace curdkv
