// Matrix products in BF16 by tile registers, which a thread has eight of: Intel's AMX. What is built upon
// them is handed the operations, so that a test can bring its own, in plain C++, on any processor.
#pragma once

#include <ggml.h>

#include <cstddef>
#include <cstdint>

namespace curdkv {

inline constexpr int64_t kTileSide = 32;  // rows and columns of a block of sums, and a step along k

struct Bf16Tiles {
  // Set up this thread's tiles, and let go of them: others who use the thread set them up in their own way.
  void (*begin)();
  void (*end)();

  // c[i][j] = sum over k of a[i][k] b[k][j], in F32, whose order depends on n_steps alone; rows of c lie
  // c_stride floats apart. Between begin() and end().
  //   a: [n_steps][kTileSide rows i][kTileSide of k]
  //   b: [n_steps][kTileSide / 2 pairs of k][kTileSide columns j][2]
  void (*multiply)(const ggml_bf16_t* a, const ggml_bf16_t* b, int64_t n_steps, float* c, size_t c_stride);

  // To the nearest BF16. n: a multiple of kTileSide.
  void (*round)(const float* x, int64_t n, ggml_bf16_t* to);
};

// Between begin() and end() while it lives.
class TilesInUse {
 public:
  explicit TilesInUse(const Bf16Tiles& tiles) : tiles_(tiles) { tiles_.begin(); }
  ~TilesInUse() { tiles_.end(); }
  TilesInUse(const TilesInUse&) = delete;
  TilesInUse& operator=(const TilesInUse&) = delete;

 private:
  const Bf16Tiles& tiles_;
};

// nullptr where the processor has none, or the system does not let this process use them.
const Bf16Tiles* amx_tiles();

// Products of blocks, n times, for what one thread can do at most. Returns the number of multiplications and
// additions.
double multiply_blocks(const Bf16Tiles& tiles, int64_t n);

}  // namespace curdkv
