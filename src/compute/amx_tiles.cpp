// Tiles by Intel's AMX.
#include "base/cpu.h"
#include "compute/bf16_tiles.h"

#if defined(__x86_64__) && defined(__linux__)

#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CURDKV_AMX __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw,avx512vl,avx512bf16")))

namespace curdkv {
namespace {

// As the processor reads it: eight tiles of 16 rows of 64 bytes.
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfig) == 64);
constexpr TileConfig kWholeTiles;

constexpr int64_t kHalf = kTileSide / 2;

CURDKV_AMX void begin() {
  _tile_loadconfig(&kWholeTiles);
}

CURDKV_AMX void end() {
  _tile_release();
}

// GCC 12's intrinsics do not say that they read and write memory.
CURDKV_AMX inline void settle_memory() {
  __asm__ volatile("" ::: "memory");
}

// Two by two tiles of sums, so that each tile of a and b is loaded for two products.
CURDKV_AMX void multiply(const ggml_bf16_t* a, const ggml_bf16_t* b, int64_t n_steps, float* c,
                         size_t c_stride) {
  constexpr size_t kRow = kTileSide * sizeof(ggml_bf16_t), kPairs = 2 * kRow;  // bytes
  settle_memory();
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t s = 0; s < n_steps; ++s, a += kTileSide * kTileSide, b += kTileSide * kTileSide) {
    _tile_loadd(4, a, kRow);
    _tile_loadd(6, b, kPairs);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, b + 2 * kHalf, kPairs);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, a + kHalf * kTileSide, kRow);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  const size_t stride = c_stride * sizeof(float);
  float* lower = c + kHalf * c_stride;
  _tile_stored(0, c, stride);
  _tile_stored(1, c + kHalf, stride);
  _tile_stored(2, lower, stride);
  _tile_stored(3, lower + kHalf, stride);
  settle_memory();
}

CURDKV_AMX void round(const float* x, int64_t n, ggml_bf16_t* to) {
  for (int64_t i = 0; i < n; i += 32) {
    const __m512bh both = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + i + 16), _mm512_loadu_ps(x + i));
    _mm512_storeu_si512(to + i, (__m512i)both);
  }
}

// Linux keeps tiles for those processes alone that ask.
bool ask_for_tiles() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace

const Bf16Tiles* amx_tiles() {
  static constexpr Bf16Tiles kTiles = {begin, end, multiply, round};
  if (!cpu_has_amx_bf16()) return nullptr;
  static const bool granted = ask_for_tiles();
  return granted ? &kTiles : nullptr;
}

}  // namespace curdkv

#else

namespace curdkv {

const Bf16Tiles* amx_tiles() {
  return nullptr;
}

}  // namespace curdkv

#endif
