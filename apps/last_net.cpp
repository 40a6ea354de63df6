#include "last_net.h"

#include <execinfo.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <exception>
#include <new>

#include "command.h"

namespace curdkv::app {
namespace {

std::terminate_handler standard_handler = nullptr;

bool memory_is_out() {
  if (const std::exception_ptr thrown = std::current_exception()) {
    try {
      std::rethrow_exception(thrown);
    } catch (const std::bad_alloc&) {
      return true;
    } catch (...) {
      return false;
    }
  }
  // Nothing was thrown, for want of room for the exception itself, unless this is no matter of memory at all.
  void* volatile probe =
      std::malloc(1024);  // volatile: compilers take it for a success that need not be tried
  std::free(probe);
  return probe == nullptr;
}

void end_without_memory() {
  if (memory_is_out()) {
    say_out_of_memory();
    _exit(kFailed);
  }
  if (standard_handler != nullptr) standard_handler();
  std::abort();
}

void set_handler() {
  standard_handler = std::set_terminate(end_without_memory);
}

// Before the initialisers of the libraries, which allocate.
[[gnu::section(".preinit_array"), gnu::used]] void (*const before_all)() = set_handler;

}  // namespace

// Once: destructors of libraries' statics may fail again when the process ends.
void say_out_of_memory() {
  static std::atomic_flag said;
  if (said.test_and_set()) return;
  constexpr char kText[] = "error: out of memory\n";
  [[maybe_unused]] const auto written = write(STDERR_FILENO, kText, sizeof kText - 1);
}

[[gnu::noinline]] void prepare_for_no_memory() {
  void* caller = nullptr;
  backtrace(&caller, 1);  // loads the unwinder
  constexpr size_t kBytes = 512 << 10, kPage = 4096;
  [[maybe_unused]] volatile char stack[kBytes];
  for (size_t i = 0; i < kBytes; i += kPage) stack[i] = 0;
}

}  // namespace curdkv::app
