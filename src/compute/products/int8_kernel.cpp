// Products in 8 bits, for several instruction sets, of which the best is chosen when the program runs: of
// many tokens by register tiles, of a few by rows.
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "base/cpu.h"
#include "base/scratch.h"
#include "compute/products/int8_unpack.h"
#include "compute/products/kernel.h"
#include "compute/products/row_kernel.h"

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

[[maybe_unused]] constexpr int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                    1,    13,   25,  38,  53,  69,  89,  113};
// Twice what E2M1 stands for.
[[maybe_unused]] constexpr int8_t kMxfp4Values[16] = {0, 1,  2,  3,  4,  6,  8,  12,
                                                      0, -1, -2, -3, -4, -6, -8, -12};

#if defined(__x86_64__)
#include "compute/products/int8_avx2-inl.h"
#include "compute/products/int8_avx512-inl.h"
#elif defined(__aarch64__)
#include "compute/products/int8_neon-inl.h"
#include "compute/products/int8_neon_i8mm-inl.h"
#endif

// One instruction set's.
struct Choice {
  const char* name;
  std::unique_ptr<ProductKernel> (*make)();
  void (*unpack_row)(const WeightMatrix& w, int64_t row, std::span<Int8Block> to, float* floats);
  void (*multiply_rows)(ggml_type type, const char* rows, int64_t n_rows, int64_t n_in, const RowInput* in,
                        int64_t n_columns, float* out, int64_t out_stride);
  double (*dot_int8)(int64_t n, int32_t* out);
};

template <typename Kernel>
[[maybe_unused]] std::unique_ptr<ProductKernel> make() {
  return std::make_unique<Kernel>();
}

#define CURDKV_CHOICE(name, set)                                                    \
  Choice {                                                                          \
    name, make<set::Kernel>, set::unpack_any_row, set::multiply_rows, set::dot_int8 \
  }

Choice best() {
#if defined(__x86_64__)
  if (cpu_has_avx512_vnni()) return CURDKV_CHOICE("AVX-512 VNNI", avx512_vnni);
  if (cpu_has_avx_vnni()) return CURDKV_CHOICE("AVX-VNNI", avx_vnni);
  if (cpu_has_avx2()) return CURDKV_CHOICE("AVX2", avx2);
#elif defined(__aarch64__)
  if (cpu_has_neon_i8mm()) return CURDKV_CHOICE("NEON's i8mm and dot products", neon_i8mm);
  if (cpu_has_neon_dotprod()) return CURDKV_CHOICE("NEON's dot products", neon_dotprod);
#endif
  return {"", [] { return std::unique_ptr<ProductKernel>(); }, nullptr, nullptr, nullptr};
}

}  // namespace

std::unique_ptr<ProductKernel> make_int8_kernel() {
  return best().make();
}

const char* int8_kernel_name() {
  return best().name;
}

double dot_int8(int64_t n) {
  alignas(64) int32_t state[16 * 12] = {};
  return best().dot_int8 == nullptr ? 0 : best().dot_int8(n, state);
}

void unpack_row(const WeightMatrix& w, int64_t row, std::span<Int8Block> to, float* floats) {
  best().unpack_row(w, row, to, floats);
}

bool row_kernel_takes(ggml_type type, int64_t n_in) {
  const bool has_format = unpacks_exactly(type) || type == GGML_TYPE_Q6_K;
  return has_format && best().multiply_rows != nullptr && n_in % ggml_blck_size(type) == 0;
}

void multiply_rows(ggml_type type, const char* rows, int64_t n_rows, int64_t n_in, const char* inputs,
                   int64_t n_columns, float* out, int64_t out_stride) {
  best().multiply_rows(type, rows, n_rows, n_in, reinterpret_cast<const RowInput*>(inputs), n_columns, out,
                       out_stride);
}

}  // namespace curdkv
