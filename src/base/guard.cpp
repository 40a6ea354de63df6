#include "base/guard.h"

#include <ggml.h>

#include <cstring>
#include <exception>
#include <mutex>
#include <new>
#include <string_view>

namespace curdkv {
namespace {

// ggml has one abort callback for the whole process; while guarded calls run it is ours, and what other
// threads abort over still ends the process.
std::mutex callback_mutex;
int n_guarded = 0;
ggml_abort_callback_t previous = nullptr;
thread_local bool throwing = false;

// Holds its text itself, as memory may be out.
class FailedAssertion : public std::exception {
 public:
  explicit FailedAssertion(const char* message) { std::strncpy(text_, message, sizeof text_ - 1); }
  const char* what() const noexcept override { return text_; }

 private:
  char text_[256] = {};
};

void throw_instead(const char* message) {
  if (throwing) {
    if (is_about_memory(message)) throw std::bad_alloc();
    throw FailedAssertion(message);
  }
  if (previous != nullptr) previous(message);
}

Error out_of_memory() {
  return {ErrorCode::out_of_memory, "out of memory"};  // short enough for a string to need none
}

}  // namespace

ThrowingAssertions::ThrowingAssertions() : outer_(throwing) {
  if (outer_) return;
  const std::lock_guard lock(callback_mutex);
  if (n_guarded++ == 0) previous = ggml_set_abort_callback(throw_instead);
  throwing = true;
}

ThrowingAssertions::~ThrowingAssertions() {
  if (outer_) return;
  const std::lock_guard lock(callback_mutex);
  throwing = false;
  if (--n_guarded == 0) ggml_set_abort_callback(previous);
}

// ggml asserts that what it allocated is there, aborts by name where it was built to (cmake/llama), and logs
// exceptions.
bool is_about_memory(std::string_view text) {
  for (const char* sign :
       {"out of memory", "!= NULL", "mem_buffer", "failed to allocate", "insufficient memory", "bad_alloc"}) {
    if (text.find(sign) != std::string_view::npos) return true;
  }
  return false;
}

Error current_exception_as_error(ErrorCode otherwise) {
  try {
    try {
      throw;
    } catch (const std::bad_alloc&) {
      return out_of_memory();
    } catch (const std::exception& e) {
      return {otherwise, e.what()};
    }
  } catch (const std::bad_alloc&) {  // the text found no room
    return out_of_memory();
  }
}

}  // namespace curdkv
