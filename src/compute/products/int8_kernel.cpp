// Products in 8 bits by AVX-512's VNNI. A register tile is 2 panels of 16 weight rows by 6 tokens; for each
// block of 32 weights it gathers 8 dot products of 4 in integers, then adds them up in F32 with the block's
// scales.
//
// A panel: for each block of 32, 8 vectors of 16 rows x 4 weights (int8), then for each row -128 times the
// sum of its weights (int32), its scale (F32) and, if the type has any, its minimum (F32). A tile: for each
// block of 32, 6 tokens x 32 inputs (uint8, 128 more than their value), then for each token its scale and its
// sum (F32).
#include "compute/products/kernel.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "base/cpu.h"
#include "base/scratch.h"
#include "compute/products/int8_unpack.h"

#define CURDKV_VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))
#define CURDKV_UNROLL _Pragma("GCC unroll 16")

namespace curdkv {
namespace {

constexpr int kRows = 16;  // of a panel
constexpr int kTokens = 6;
constexpr size_t kWeights = 512, kCorrections = 64, kScales = 64,
                 kMinima = 64;  // bytes for a block of a panel
constexpr size_t kStayBytes = 512 << 10;
constexpr size_t kTileBlock = kTokens * (kInt8Block + 2 * sizeof(float));

constexpr size_t panel_block(bool minima) {
  return kWeights + kCorrections + kScales + (minima ? kMinima : 0);
}

// out[t][p * 16...] for n_tokens <= kTokens tokens.
template <int kPanels, bool kHasMinima>
CURDKV_VNNI __attribute__((always_inline)) inline void multiply_tile(const char* panel, size_t panel_stride,
                                                                     const char* tile, int64_t n_blocks,
                                                                     int64_t n_tokens, float* out,
                                                                     size_t out_stride) {
  __m512 sum[kPanels][kTokens];
  CURDKV_UNROLL for (int p = 0; p < kPanels; ++p) {
    CURDKV_UNROLL for (int t = 0; t < kTokens; ++t) sum[p][t] = _mm512_setzero_ps();
  }
  for (int64_t b = 0; b < n_blocks; ++b, panel += panel_block(kHasMinima), tile += kTileBlock) {
    __m512i dot[kPanels][kTokens];
    CURDKV_UNROLL for (int p = 0; p < kPanels; ++p) {
      const char* w = panel + static_cast<size_t>(p) * panel_stride;
      CURDKV_UNROLL for (int t = 0; t < kTokens; ++t) dot[p][t] = _mm512_load_si512(w + kWeights);
    }
    CURDKV_UNROLL for (int k = 0; k < 8; ++k) {
      __m512i weights[kPanels];
      CURDKV_UNROLL for (int p = 0; p < kPanels; ++p) {
        weights[p] = _mm512_load_si512(panel + static_cast<size_t>(p) * panel_stride + 64 * k);
      }
      CURDKV_UNROLL for (int t = 0; t < kTokens; ++t) {
        int four;
        std::memcpy(&four, tile + t * kInt8Block + 4 * k, sizeof four);
        const __m512i inputs = _mm512_set1_epi32(four);
        CURDKV_UNROLL for (int p = 0; p < kPanels; ++p) {
          dot[p][t] = _mm512_dpbusd_epi32(dot[p][t], inputs, weights[p]);
        }
      }
    }
    const auto of_token = [&](size_t offset, int t) __attribute__((always_inline)) {
      float x;
      std::memcpy(&x, tile + offset + static_cast<size_t>(t) * sizeof x, sizeof x);
      return x;
    };
    CURDKV_UNROLL for (int p = 0; p < kPanels; ++p) {
      const char* w = panel + static_cast<size_t>(p) * panel_stride;
      const __m512 scale = _mm512_load_ps(w + kWeights + kCorrections);
      CURDKV_UNROLL for (int t = 0; t < kTokens; ++t) {
        const __m512 both = scale * of_token(kTokens * kInt8Block, t);
        sum[p][t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[p][t]), both, sum[p][t]);
      }
      if constexpr (kHasMinima) {
        const __m512 min = _mm512_load_ps(w + kWeights + kCorrections + kScales);
        CURDKV_UNROLL for (int t = 0; t < kTokens; ++t) {
          const float inputs = of_token(kTokens * (kInt8Block + sizeof(float)), t);
          sum[p][t] = _mm512_fmadd_ps(min, _mm512_set1_ps(inputs), sum[p][t]);
        }
      }
    }
  }
  CURDKV_UNROLL for (int t = 0; t < kTokens; ++t) {
    if (t < n_tokens) {
      float* to = out + static_cast<size_t>(t) * out_stride;
      CURDKV_UNROLL for (int p = 0; p < kPanels; ++p) _mm512_storeu_ps(to + p * kRows, sum[p][t]);
    }
  }
}

template <int kPanels, bool kHasMinima>
CURDKV_VNNI void multiply_panels(const char* panels, size_t panel_stride, const char* tiles, int64_t n_blocks,
                                 int64_t n_tokens, float* out, size_t out_stride) {
  const size_t tile_stride = static_cast<size_t>(n_blocks) * kTileBlock;
  for (int64_t t = 0; t < n_tokens; t += kTokens, tiles += tile_stride) {
    multiply_tile<kPanels, kHasMinima>(panels, panel_stride, tiles, n_blocks, n_tokens - t,
                                       out + static_cast<size_t>(t) * out_stride, out_stride);
  }
}

// 32 inputs as ggml quantises them: to 127 steps of either sign.
CURDKV_VNNI void pack_block(const float* x, char* inputs, float& scale, float& sum) {
  const __m512 a = _mm512_loadu_ps(x), b = _mm512_loadu_ps(x + 16);
  const float most = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(a), _mm512_abs_ps(b)));
  scale = most / 127;
  const float inverse = most > 0 ? 127 / most : 0;
  const __m512i qa = _mm512_cvtps_epi32(a * inverse), qb = _mm512_cvtps_epi32(b * inverse);
  // In floats, which hold such sums exactly: what inputs that are no numbers become may overflow integers.
  sum = scale * _mm512_reduce_add_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(qa, qb)));
  const __m128i flip = _mm_set1_epi8(static_cast<char>(0x80));  // adds 128
  _mm_storeu_si128(reinterpret_cast<__m128i*>(inputs), _mm_xor_si128(_mm512_cvtepi32_epi8(qa), flip));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(inputs + 16), _mm_xor_si128(_mm512_cvtepi32_epi8(qb), flip));
}

class Int8Kernel : public ProductKernel {
 public:
  bool takes(const WeightMatrix& w) const override {
    return ggml_is_quantized(w.type) && w.n_in % kInt8Block == 0 && w.n_out % kRows == 0;
  }

  int64_t panel_rows() const override { return kRows; }

  size_t panel_bytes(const WeightMatrix& w) const override {
    return static_cast<size_t>(w.n_in / kInt8Block) * panel_block(has_minima(w.type));
  }

  size_t unpack_scratch_bytes(const WeightMatrix& w) const override {
    Scratch scratch;
    lay_out(scratch, w);
    return scratch.n_bytes();
  }

  void unpack(const WeightMatrix& w, int64_t panel, char* to, char* memory) const override {
    const bool minima = has_minima(w.type);
    Scratch scratch(memory);
    const auto [first, floats] = lay_out(scratch, w);
    const std::span blocks(first, static_cast<size_t>(w.n_in / kInt8Block));
    for (int r = 0; r < kRows; ++r) {
      unpack_row(w, panel * kRows + r, blocks, floats);
      char* at = to;
      for (const Int8Block& b : blocks) {
        int sum = 0;
        for (const int8_t q : b.q) sum += q;
        for (size_t k = 0; k < 8; ++k) std::memcpy(at + 64 * k + 4 * r, &b.q[4 * k], 4);
        const int correction = -128 * sum;
        char* row = at + kWeights + 4 * r;
        std::memcpy(row, &correction, 4);
        std::memcpy(row + kCorrections, &b.scale, 4);
        if (minima) std::memcpy(row + kCorrections + kScales, &b.min, 4);
        at += panel_block(minima);
      }
    }
  }

  int64_t tile_tokens() const override { return kTokens; }

  size_t tile_bytes(int64_t n_in) const override {
    return static_cast<size_t>(n_in / kInt8Block) * kTileBlock;
  }

  void pack(const float* x, size_t x_stride, int64_t n_in, int64_t n_tokens, char* to) const override {
    for (int64_t b = 0; b < n_in / kInt8Block; ++b, to += kTileBlock) {
      float scales[kTokens] = {}, sums[kTokens] = {};
      for (int64_t t = 0; t < n_tokens; ++t) {
        pack_block(x + static_cast<size_t>(t) * x_stride + b * kInt8Block, to + t * kInt8Block, scales[t],
                   sums[t]);
      }
      std::memset(to + n_tokens * kInt8Block, 0, static_cast<size_t>((kTokens - n_tokens) * kInt8Block));
      std::memcpy(to + kTokens * kInt8Block, scales, sizeof scales);
      std::memcpy(to + kTokens * kInt8Block + sizeof scales, sums, sizeof sums);
    }
  }

  size_t multiply_scratch_bytes(const WeightMatrix&, int64_t) const override { return 0; }

  void multiply(const WeightMatrix& w, const char* panels, int64_t n_panels, const char* tiles,
                int64_t n_tokens, float* out, size_t out_stride, char*) const override {
    const bool minima = has_minima(w.type);
    const int64_t n_blocks = w.n_in / kInt8Block;
    const size_t stride = panel_bytes(w), tile = tile_bytes(w.n_in);
    // Tiles that stay in the second-level cache while all panels pass.
    const auto n_stay = static_cast<int64_t>(std::max<size_t>(1, kStayBytes / tile)) * kTokens;
    for (int64_t t = 0; t < n_tokens; t += n_stay) {
      const char* some = tiles + static_cast<size_t>(t / kTokens) * tile;
      float* to = out + static_cast<size_t>(t) * out_stride;
      for (int64_t p = 0; p < n_panels; p += 2) {
        const auto f = p + 1 < n_panels ? (minima ? multiply_panels<2, true> : multiply_panels<2, false>)
                                        : (minima ? multiply_panels<1, true> : multiply_panels<1, false>);
        f(panels + static_cast<size_t>(p) * stride, stride, some, n_blocks, std::min(n_stay, n_tokens - t),
          to + p * kRows, out_stride);
      }
    }
  }

 private:
  struct Row {
    Int8Block* blocks;
    float* floats;
  };
  static Row lay_out(Scratch& scratch, const WeightMatrix& w) {
    auto* blocks = scratch.take<Int8Block>(w.n_in / kInt8Block);
    return {blocks, scratch.take<float>(w.n_in)};
  }
};

}  // namespace

std::unique_ptr<ProductKernel> make_int8_kernel() {
  if (!cpu_has_avx512_vnni()) return nullptr;
  return std::make_unique<Int8Kernel>();
}

}  // namespace curdkv

#else

namespace curdkv {

std::unique_ptr<ProductKernel> make_int8_kernel() {
  return nullptr;
}

}  // namespace curdkv

#endif
