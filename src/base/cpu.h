// What this processor can, as far as kernels are chosen by it at run time.
#pragma once

#include <string>
#include <vector>

#include "curdkv/version.h"

namespace curdkv {

// Micro-architecture levels of x86-64 (psABI): v2 has SSE4.2, v3 AVX2, v4 AVX-512; v3_vnni has AVX2 and
// AVX-VNNI where the processor has it; native is all there is.
enum class CpuLevel { v2, v3, v3_vnni, v4, native };

// From now on kernels of this library use no more than the level has; for tests. Not to be called while
// anything computes. What ggml was compiled for stays as it is.
void limit_cpu(CpuLevel level);

// Within the limit. AVX2 with FMA and F16C; AVX-512's VNNI with BW and VL; AMX's BF16 with AVX-512's; it and
// ARM's only where there is no limit.
bool cpu_has_avx2();
bool cpu_has_avx_vnni();
bool cpu_has_avx512_vnni();
bool cpu_has_amx_bf16();
bool cpu_has_neon_dotprod();
bool cpu_has_neon_i8mm();  // and dot products

// The features that matter for speed, by the kernel's names ("avx2", "avx512_vnni", "asimddp"), ascending.
std::vector<std::string> cpu_features();
std::string cpu_name();  // as the processor calls itself, or ""

// What ggml was compiled for, in its own words ("AVX2", "AVX512_VNNI").
std::vector<std::string> ggml_features();

}  // namespace curdkv
