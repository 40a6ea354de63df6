// Runs a test program's cases with no more of the processor than CURDKV_TEST_CPU says (v2, v3, v3_vnni or v4).
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "base/cpu.h"

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  if (const char* level = std::getenv("CURDKV_TEST_CPU")) {
    const std::string name = level;
    using curdkv::CpuLevel;
    if (name == "v2") {
      curdkv::limit_cpu(CpuLevel::v2);
    } else if (name == "v3") {
      curdkv::limit_cpu(CpuLevel::v3);
    } else if (name == "v3_vnni") {
      curdkv::limit_cpu(CpuLevel::v3_vnni);
    } else if (name == "v4") {
      curdkv::limit_cpu(CpuLevel::v4);
    } else {
      std::fprintf(stderr, "CURDKV_TEST_CPU is v2, v3, v3_vnni or v4\n");
      return 2;
    }
  }
  return RUN_ALL_TESTS();
}
