// Products in BF16 by tile registers. A panel is kTileSide rows of the weights, a tile kTileSide tokens;
// their sums stay in registers over all of k.
#include <algorithm>
#include <cstring>

#include "base/scratch.h"
#include "compute/bf16_tiles.h"
#include "compute/products/kernel.h"

namespace curdkv {
namespace {

constexpr size_t kStayBytes = 1 << 20;
constexpr int64_t kStep = kTileSide * kTileSide;  // elements of a step along k

using Pair = uint32_t;  // of BF16

class Bf16Kernel : public ProductKernel {
 public:
  explicit Bf16Kernel(const Bf16Tiles& tiles) : tiles_(tiles) {}

  // F32 and F16 say more of a weight than BF16 can.
  bool takes(const WeightMatrix& w) const override {
    const bool fits = ggml_is_quantized(w.type) || w.type == GGML_TYPE_BF16;
    return fits && w.n_in % kTileSide == 0 && w.n_out % kTileSide == 0;
  }

  int64_t panel_rows() const override { return kTileSide; }

  size_t panel_bytes(const WeightMatrix& w) const override { return tile_bytes(w.n_in); }

  size_t unpack_scratch_bytes(const WeightMatrix& w) const override {
    return Scratch::measure([&](Scratch& s) { lay_out(s, w.n_in); });
  }

  void unpack(const WeightMatrix& w, int64_t panel, char* to, char* memory) const override {
    Scratch scratch(memory);
    const auto [floats, rows] = lay_out(scratch, w.n_in);
    for (int64_t r = 0; r < kTileSide; ++r) {
      ggml_get_type_traits(w.type)->to_float(w.row(panel * kTileSide + r), floats, w.n_in);
      tiles_.round(floats, w.n_in, rows + r * w.n_in);
    }
    for (int64_t k = 0; k < w.n_in; k += 2) {
      for (int64_t r = 0; r < kTileSide; ++r, to += sizeof(Pair))
        std::memcpy(to, rows + r * w.n_in + k, sizeof(Pair));
    }
  }

  int64_t tile_tokens() const override { return kTileSide; }

  size_t tile_bytes(int64_t n_in) const override {
    return static_cast<size_t>(kTileSide * n_in) * sizeof(ggml_bf16_t);
  }

  void pack(const float* x, size_t x_stride, int64_t n_in, int64_t n_tokens, char* to) const override {
    auto* at = reinterpret_cast<ggml_bf16_t*>(to);
    for (int64_t k = 0; k < n_in; k += kTileSide, at += kStep) {
      for (int64_t t = 0; t < n_tokens; ++t)
        tiles_.round(x + static_cast<size_t>(t) * x_stride + k, kTileSide, at + t * kTileSide);
      std::fill(at + n_tokens * kTileSide, at + kStep, ggml_bf16_t{0});
    }
  }

  // Of a block of sums, some of which are of no token.
  size_t multiply_scratch_bytes(const WeightMatrix&, int64_t) const override { return kStep * sizeof(float); }

  void multiply(const WeightMatrix& w, const char* panels, int64_t n_panels, const char* tiles,
                int64_t n_tokens, float* out, size_t out_stride, char* scratch) const override {
    const TilesInUse use(tiles_);
    const int64_t n_steps = w.n_in / kTileSide;
    const size_t bytes = tile_bytes(w.n_in);  // of a panel, too
    const auto block = [&](int64_t t, int64_t p, float* sums, size_t stride) {
      const char *a = tiles + static_cast<size_t>(t / kTileSide) * bytes,
                 *b = panels + static_cast<size_t>(p) * bytes;
      tiles_.multiply(reinterpret_cast<const ggml_bf16_t*>(a), reinterpret_cast<const ggml_bf16_t*>(b),
                      n_steps, sums, stride);
    };
    // Tiles that stay in the second-level cache while all panels pass.
    const auto n_stay = static_cast<int64_t>(std::max<size_t>(1, kStayBytes / bytes)) * kTileSide;
    for (int64_t first = 0; first < n_tokens; first += n_stay) {
      const int64_t end = std::min(first + n_stay, n_tokens);
      for (int64_t p = 0; p < n_panels; ++p) {
        for (int64_t t = first; t < end; t += kTileSide) {
          float* to = out + static_cast<size_t>(t) * out_stride + p * kTileSide;
          if (t + kTileSide <= end) {
            block(t, p, to, out_stride);
            continue;
          }
          auto* sums = reinterpret_cast<float*>(scratch);
          block(t, p, sums, kTileSide);
          for (; t < end; ++t, sums += kTileSide, to += out_stride) std::copy_n(sums, kTileSide, to);
        }
      }
    }
  }

 private:
  struct Rows {
    float* floats;      // of one
    ggml_bf16_t* rows;  // [kTileSide][n_in]
  };
  static Rows lay_out(Scratch& scratch, int64_t n_in) {
    auto* floats = scratch.take<float>(n_in);
    return {floats, scratch.take<ggml_bf16_t>(kTileSide * n_in)};
  }

  const Bf16Tiles& tiles_;
};

}  // namespace

std::unique_ptr<ProductKernel> make_bf16_kernel(const Bf16Tiles* tiles) {
  if (tiles == nullptr) return nullptr;
  return std::make_unique<Bf16Kernel>(*tiles);
}

}  // namespace curdkv
