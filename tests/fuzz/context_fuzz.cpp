// What libFuzzer calls, and context_fuzz_test with inputs of its own: the reader of saved contexts on any
// bytes, as they are and with hashes that are right, so that what lies behind these is reached.
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/guard.h"
#include "base/log_capture.h"
#include "store/context_file.h"
#include "store/reseal.h"

using namespace curdkv;

namespace {

void open_bytes(const std::string& bytes) {
  const testing::MemoryFile file(bytes);
  const auto opened = guarded([&] { return ContextFile::open(file.path(), {}); });
  if (!opened && opened.error().code == ErrorCode::internal)
    __builtin_trap();  // an exception or an assertion
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  capture_logs();
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  open_bytes(bytes);
  const auto sealed = guarded([&] { return testing::with_right_hashes(bytes); });
  if (sealed) open_bytes(*sealed);
  return 0;
}
