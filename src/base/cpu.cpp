#include "base/cpu.h"

#include <ggml-backend.h>
#include <hwy/targets.h>

#include <atomic>
#include <cstring>
#include <fstream>

#include "base/format.h"
#include "base/guard.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace curdkv {
namespace {

std::atomic<CpuLevel> limit = CpuLevel::native;

struct Feature {
  const char* name;       // as the kernel calls it in /proc/cpuinfo
  const char* ggml_name;  // as ggml calls what it was compiled for; nullptr: it has no name for it
  bool (*has)();
};

#if defined(__x86_64__)

bool cpuid_bit(unsigned leaf, unsigned subleaf, char reg, int bit) {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(leaf, subleaf, &a, &b, &c, &d) == 0) return false;
  const unsigned value = reg == 'a' ? a : reg == 'c' ? c : d;
  return (value >> bit & 1) != 0;
}

// Whether the system saves the tiles' state, without which they cannot be used.
bool has_tile_state() {
  if (!cpuid_bit(1, 0, 'c', 27)) return false;
  unsigned low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (low >> 17 & 3) == 3;
}

// What clang's __builtin_cpu_supports does not know is asked of the processor.
constexpr Feature kFeatures[] = {
    {"pni", "SSE3", [] { return __builtin_cpu_supports("sse3") != 0; }},
    {"ssse3", "SSSE3", [] { return __builtin_cpu_supports("ssse3") != 0; }},
    {"sse4_2", nullptr, [] { return __builtin_cpu_supports("sse4.2") != 0; }},
    {"avx", "AVX", [] { return __builtin_cpu_supports("avx") != 0; }},
    {"avx2", "AVX2", [] { return __builtin_cpu_supports("avx2") != 0; }},
    {"f16c", "F16C", [] { return cpuid_bit(1, 0, 'c', 29); }},
    {"fma", "FMA", [] { return __builtin_cpu_supports("fma") != 0; }},
    {"bmi2", "BMI2", [] { return __builtin_cpu_supports("bmi2") != 0; }},
    {"avx_vnni", "AVX_VNNI", [] { return cpuid_bit(7, 1, 'a', 4); }},
    {"avx512f", "AVX512", [] { return __builtin_cpu_supports("avx512f") != 0; }},
    {"avx512bw", nullptr, [] { return __builtin_cpu_supports("avx512bw") != 0; }},
    {"avx512vl", nullptr, [] { return __builtin_cpu_supports("avx512vl") != 0; }},
    {"avx512vbmi", "AVX512_VBMI", [] { return __builtin_cpu_supports("avx512vbmi") != 0; }},
    {"avx512_vnni", "AVX512_VNNI", [] { return __builtin_cpu_supports("avx512vnni") != 0; }},
    {"avx512_bf16", "AVX512_BF16", [] { return __builtin_cpu_supports("avx512bf16") != 0; }},
    {"amx_tile", nullptr, [] { return cpuid_bit(7, 0, 'd', 24) && has_tile_state(); }},
    {"amx_bf16", nullptr, [] { return cpuid_bit(7, 0, 'd', 22) && has_tile_state(); }},
    {"amx_int8", "AMX_INT8", [] { return cpuid_bit(7, 0, 'd', 25) && has_tile_state(); }},
};

#elif defined(__aarch64__) && defined(__linux__)

bool hwcap(unsigned long bit) {
  return (getauxval(AT_HWCAP) & bit) != 0;
}
bool hwcap2(unsigned long bit) {
  return (getauxval(AT_HWCAP2) & bit) != 0;
}

constexpr Feature kFeatures[] = {
    {"asimd", "NEON", [] { return hwcap(HWCAP_ASIMD); }},
    {"asimdhp", "FP16_VA", [] { return hwcap(HWCAP_ASIMDHP); }},
    {"asimddp", "DOTPROD", [] { return hwcap(HWCAP_ASIMDDP); }},
    {"i8mm", "MATMUL_INT8", [] { return hwcap2(HWCAP2_I8MM); }},
    {"bf16", nullptr, [] { return hwcap2(HWCAP2_BF16); }},
    {"sve", "SVE", [] { return hwcap(HWCAP_SVE); }},
    {"sve2", nullptr, [] { return hwcap2(HWCAP2_SVE2); }},
};

#else

constexpr Feature kFeatures[] = {{"none", nullptr, [] { return false; }}};

#endif

}  // namespace

void limit_cpu(CpuLevel level) {
  limit = level;
  int64_t disabled = 0;
#if HWY_ARCH_X86
  if (level < CpuLevel::native) disabled |= HWY_AVX3_DL;
  if (level < CpuLevel::v4) disabled |= HWY_AVX3;
  if (level < CpuLevel::v3) disabled |= HWY_AVX2;
#endif
  hwy::DisableTargets(disabled);
  hwy::GetChosenTarget().DeInit();
}

#if defined(__x86_64__)
// Asking the processor takes a virtual machine some 50 us, so that it is asked once.
bool cpu_has_avx2() {
  static const bool has_f16c = cpuid_bit(1, 0, 'c', 29);
  return limit >= CpuLevel::v3 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c;
}
bool cpu_has_avx_vnni() {
  static const bool has = cpuid_bit(7, 1, 'a', 4);
  return (limit == CpuLevel::v3_vnni || limit == CpuLevel::native) && cpu_has_avx2() && has;
}
bool cpu_has_avx512_vnni() {
  return limit == CpuLevel::native && __builtin_cpu_supports("avx512vnni") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}
bool cpu_has_amx_bf16() {
  static const bool has = cpuid_bit(7, 0, 'd', 24) && cpuid_bit(7, 0, 'd', 22) && has_tile_state();
  return limit == CpuLevel::native && __builtin_cpu_supports("avx512bf16") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && has;
}
bool cpu_has_neon_dotprod() {
  return false;
}
bool cpu_has_neon_i8mm() {
  return false;
}
#else
bool cpu_has_neon_dotprod() {
#if defined(__aarch64__) && defined(__linux__)
  return limit == CpuLevel::native && hwcap(HWCAP_ASIMDDP);
#else
  return false;
#endif
}
bool cpu_has_neon_i8mm() {
#if defined(__aarch64__) && defined(__linux__)
  return cpu_has_neon_dotprod() && hwcap2(HWCAP2_I8MM);
#else
  return false;
#endif
}
bool cpu_has_avx2() {
  return false;
}
bool cpu_has_avx_vnni() {
  return false;
}
bool cpu_has_avx512_vnni() {
  return false;
}
bool cpu_has_amx_bf16() {
  return false;
}
#endif

std::vector<std::string> cpu_features() {
  std::vector<std::string> out;
  for (const Feature& f : kFeatures) {
    if (f.has()) out.emplace_back(f.name);
  }
  return out;
}

std::string cpu_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t at = line.find(": ");
    if (at != std::string::npos && line.starts_with("model name")) return line.substr(at + 2);
  }
  return "";
}

std::vector<std::string> ggml_features() {
  const ThrowingAssertions throwing;  // ggml sets itself up
  std::vector<std::string> out;
  ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
  if (cpu == nullptr) return out;
  auto* get = reinterpret_cast<ggml_backend_get_features_t>(
      ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(cpu), "ggml_backend_get_features"));
  if (get == nullptr) return out;
  for (const auto* f = get(ggml_backend_dev_backend_reg(cpu)); f->name != nullptr; ++f) {
    if (std::strcmp(f->value, "0") != 0) out.emplace_back(f->name);
  }
  return out;
}

Result<void> check_cpu() {
  return guarded([]() -> Result<void> {
    std::string missing;
    // A portable build's ggml has nothing for processors below x86-64-v2.
    if (ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU) == nullptr) missing = "sse4_2";
    for (const std::string& needed : ggml_features()) {
      for (const Feature& f : kFeatures) {
        if (f.ggml_name != nullptr && needed == f.ggml_name && !f.has())
          missing += std::string(missing.empty() ? "" : ", ") + f.name;
      }
    }
    if (missing.empty()) return {};
    return Error{
        ErrorCode::internal,
        format("this build of curdkv is for a processor that has %s, which this one (%s) has not; build it "
               "anew on this machine",
               missing.c_str(), cpu_name().c_str())};
  });
}

}  // namespace curdkv
