#include "compute/bf16_tiles.h"

namespace curdkv {

double multiply_blocks(const Bf16Tiles& tiles, int64_t n) {
  constexpr int64_t kSteps = 8;  // whose operands stay in the first-level cache
  constexpr int64_t kBlock = kTileSide * kTileSide;
  alignas(64) ggml_bf16_t a[kSteps * kBlock] = {}, b[kSteps * kBlock] = {};
  alignas(64) float c[kBlock];
  const TilesInUse use(tiles);
  for (int64_t i = 0; i < n; ++i) tiles.multiply(a, b, kSteps, c, kTileSide);
  return 2.0 * kSteps * kBlock * kTileSide * static_cast<double>(n);
}

}  // namespace curdkv
