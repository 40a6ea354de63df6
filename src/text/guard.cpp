#include "text/guard.h"

#include <ggml.h>

#include <mutex>
#include <stdexcept>

namespace curdkv {
namespace {

// ggml has one abort callback for the whole process; while guarded calls run it is ours, and what other
// threads abort over still ends the process.
std::mutex callback_mutex;
int n_guarded = 0;
ggml_abort_callback_t previous = nullptr;
thread_local bool in_guarded_call = false;

void throw_instead(const char* message) {
  if (in_guarded_call) throw std::runtime_error(message);
  if (previous != nullptr) previous(message);
}

class Guard {
 public:
  Guard() {
    const std::lock_guard lock(callback_mutex);
    if (n_guarded++ == 0) previous = ggml_set_abort_callback(throw_instead);
    in_guarded_call = true;
  }
  ~Guard() {
    in_guarded_call = false;
    const std::lock_guard lock(callback_mutex);
    if (--n_guarded == 0) ggml_set_abort_callback(previous);
  }
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;
};

}  // namespace

Result<void> guarded(const std::function<void()>& call) {
  const Guard guard;
  try {
    call();
    return {};
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::out_of_memory, "out of memory"};
  } catch (const std::exception& e) {
    return Error{ErrorCode::bad_input, e.what()};
  }
}

}  // namespace curdkv
