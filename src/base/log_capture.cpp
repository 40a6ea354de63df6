#include "base/log_capture.h"

#include <llama.h>

#include <mutex>

namespace curdkv {
namespace {

thread_local std::string first_error;

void on_log(ggml_log_level level, const char* text, void*) {
  if (level == GGML_LOG_LEVEL_ERROR && first_error.empty()) first_error = text;
}

}  // namespace

void capture_logs() {
  static std::once_flag once;
  std::call_once(once, [] { llama_log_set(on_log, nullptr); });
}

std::string take_log_error() {
  std::string text;
  std::swap(text, first_error);
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  return text;
}

}  // namespace curdkv
