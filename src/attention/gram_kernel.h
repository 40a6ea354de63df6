// The inner loops of Gram matrices and of norms of rows on the CPU. Vectorised by Highway, the instruction
// set chosen at run time.
#pragma once

#include <ggml.h>

#include <cstddef>
#include <cstdint>

namespace curdkv {

struct RowsOf {
  const char* first;
  size_t stride;   // bytes
  ggml_type type;  // F16 or F32
  int64_t n, d;
};

// Bytes of scratch that the two below take of rows of d elements.
size_t gram_scratch_bytes(int64_t d);
size_t norms_scratch_bytes(int64_t d, int64_t rank);

// The sum of the rows' outer products with themselves: F32 [d][d]. scratch: aligned for Scratch.
void gram_of(const RowsOf& rows, float* gram, char* scratch);

// |W x|^2 of each row x, W being F32 [rank][d], or |x|^2 if it is null.
void squared_norms_of(const RowsOf& rows, const float* w, int64_t rank, float* norms, char* scratch);

}  // namespace curdkv
