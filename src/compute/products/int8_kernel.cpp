// Products in 8 bits, for several instruction sets, of which the best is chosen when the program runs. A
// register tile is some weight rows by some tokens; for each block of 32 weights it gathers dot products in
// integers, then adds them up in F32 with the block's scales: the same bits with all of them that fuse
// multiply and add.
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "base/cpu.h"
#include "base/scratch.h"
#include "compute/products/int8_unpack.h"
#include "compute/products/kernel.h"

#define CURDKV_UNROLL _Pragma("GCC unroll 16")

namespace curdkv {
namespace {

[[maybe_unused]] constexpr size_t kStayBytes = 512 << 10;

template <typename T>
[[maybe_unused]] inline T read_at(const char* at) {
  T x;
  std::memcpy(&x, at, sizeof x);
  return x;
}

#if defined(__x86_64__)
#include "compute/products/int8_x86-inl.h"
#elif defined(__aarch64__)
#include "compute/products/int8_neon-inl.h"
#endif

struct Choice {
  const char* name;
  std::unique_ptr<ProductKernel> (*make)();
};

template <typename Kernel>
[[maybe_unused]] std::unique_ptr<ProductKernel> make() {
  return std::make_unique<Kernel>();
}

Choice best() {
#if defined(__x86_64__)
  if (cpu_has_avx512_vnni()) return {"AVX-512 VNNI", make<avx512_vnni::Kernel>};
  if (cpu_has_avx_vnni()) return {"AVX-VNNI", make<avx_vnni::Kernel>};
  if (cpu_has_avx2()) return {"AVX2", make<avx2::Kernel>};
#elif defined(__aarch64__)
  if (cpu_has_neon_dotprod()) return {"NEON's dot products", make<neon_dotprod::Kernel>};
#endif
  return {"", [] { return std::unique_ptr<ProductKernel>(); }};
}

}  // namespace

std::unique_ptr<ProductKernel> make_int8_kernel() {
  return best().make();
}

const char* int8_kernel_name() {
  return best().name;
}

}  // namespace curdkv
