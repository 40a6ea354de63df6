#include "measure/memory.h"

#include <fstream>
#include <string>

namespace curdkv::measure {
namespace {

std::optional<size_t> status_field(const std::string& name) {
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line)) {
    if (line.compare(0, name.size(), name) == 0) {
      return static_cast<size_t>(std::strtoull(line.c_str() + name.size(), nullptr, 10)) * 1024;
    }
  }
  return std::nullopt;
}

}  // namespace

std::optional<size_t> resident_bytes() {
  return status_field("VmRSS:");
}

bool reset_peak() {
  std::ofstream clear("/proc/self/clear_refs");
  clear << 5 << std::flush;
  return clear.good();
}

std::optional<size_t> peak_resident_bytes() {
  return status_field("VmHWM:");
}

}  // namespace curdkv::measure
