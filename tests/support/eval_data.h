// Benchmark data that the project does not ship; tests that need it are skipped, saying so, when it is not
// there.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace curdkv::testing {

// The folder CURDKV_BENCHMARK_DATA names, laid out as docs/evaluation.md says; "" if it is not set.
inline std::string benchmark_data(const std::string& path) {
  const char* root = std::getenv("CURDKV_BENCHMARK_DATA");
  const std::string full = root == nullptr ? "" : std::string(root) + "/" + path;
  return !full.empty() && std::filesystem::exists(full) ? full : "";
}

}  // namespace curdkv::testing

#define CURDKV_NEEDS_DATA(variable, path)                             \
  const std::string variable = curdkv::testing::benchmark_data(path); \
  if (variable.empty()) GTEST_SKIP() << "needs CURDKV_BENCHMARK_DATA/" << path
