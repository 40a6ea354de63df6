#include "compute/products/tiles.h"

#include <algorithm>

namespace curdkv {
namespace {

// src[0]: F32 [n_in, n]; dst: I8, its tiles.
struct PackTiles {
  const ProductKernel& kernel;

  void operator()(ggml_tensor* dst, const OpThread& thread) const {
    const ggml_tensor* x = dst->src[0];
    const int64_t n_in = x->ne[0], n = x->ne[1], tile = kernel.tile_tokens();
    for (int64_t i = thread.ith; i * tile < n; i += thread.nth) {
      kernel.pack(reinterpret_cast<const float*>(static_cast<const char*>(x->data) +
                                                 static_cast<size_t>(i * tile) * x->nb[1]),
                  x->nb[1] / sizeof(float), n_in, std::min(tile, n - i * tile),
                  static_cast<char*>(dst->data) + static_cast<size_t>(i) * kernel.tile_bytes(n_in));
    }
  }
};

}  // namespace

ggml_tensor* pack_tiles(Compute& compute, const ProductKernel& kernel, ggml_tensor* x) {
  const int64_t n_tiles = (x->ne[1] + kernel.tile_tokens() - 1) / kernel.tile_tokens();
  return compute.custom<PackTiles>(
      GGML_TYPE_I8, {static_cast<int64_t>(kernel.tile_bytes(x->ne[0])), n_tiles, 1, 1}, {&x, 1}, 0, kernel);
}

}  // namespace curdkv
