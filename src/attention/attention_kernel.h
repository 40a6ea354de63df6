// The inner loops of ragged attention on the CPU: one block of cache rows against a few queries, and the
// folding of block results. Vectorised by Highway, the instruction set chosen at run time.
#pragma once

#include <ggml.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace curdkv {

inline constexpr int64_t kBlockRows = 128;  // cache rows in a block; results are folded block by block
inline int64_t n_blocks_of(int64_t n_rows) {
  return (n_rows + kBlockRows - 1) / kBlockRows;
}
inline constexpr int kMostQueries = 8;  // that share the loads of a row

struct AttentionBlock {
  const float* q;            // F32 [d_k, n_q], already scaled
  const int64_t* n_visible;  // rows of this block each query sees, 0 to n_rows
  int64_t n_q;
  const char* k;    // type_k rows of d_k
  const char* v;    // type_v rows of d_v
  size_t k_stride;  // bytes
  size_t v_stride;
  ggml_type type_k;  // F32, F16 or Q8_0 are read fastest; any other that ggml can widen
  ggml_type type_v;
  int64_t n_rows;  // 1 to kBlockRows
  int64_t d_k;
  int64_t d_v;
};

// Floats of scratch that attend_block() needs.
size_t attention_scratch_floats(int64_t n_q, int64_t d_k, int64_t d_v);

// Per query: out[0] = max of the scores, out[1] = sum of exp(score - max), out[2...] = sum of exp * v.
// A query that sees nothing gets max = -inf and zeros. out: F32 [d_v + 2, n_q], rows out_stride floats apart.
void attend_block(const AttentionBlock& block, float* out, size_t out_stride, float* scratch);

// What serves on this processor: "F32, AVX3_DL".
std::string attention_kernel_name();

// acc = acc merged with part, both as attend_block() writes them.
void fold_block(float* acc, const float* part, int64_t d_v);

// out[d_v] = acc's weighted mean of V.
void finish_blocks(const float* acc, float* out, int64_t d_v);

}  // namespace curdkv
