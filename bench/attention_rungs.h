// Kernels of ragged attention that were tried on the way to src/attention/attention_kernel.cpp; all of one
// meaning.
#pragma once

#include "attention/attention_kernel.h"

namespace curdkv::measure {

using AttendBlock = void (*)(const AttentionBlock& block, float* out, size_t out_stride, float* scratch);

struct Rung {
  const char* name;
  AttendBlock attend;
};

// Plain loops in double precision: what the others are compared with.
void attend_reference(const AttentionBlock& block, float* out, size_t out_stride, float* scratch);
// Every query head goes through the rows for itself, with the product's inner loops.
void attend_per_query(const AttentionBlock& block, float* out, size_t out_stride, float* scratch);
// The whole block unpacked to F32, then four queries at a time; each product summed over its lanes by itself.
void attend_unpacked_block(const AttentionBlock& block, float* out, size_t out_stride, float* scratch);

inline constexpr Rung kRungs[] = {
    {"each query head for itself", attend_per_query},
    {"block unpacked, sums row by row", attend_unpacked_block},
    {"rows unpacked in registers, four rows' sums together (the product)", attend_block},
};

// A row of any cache type as F32.
void unpack(const char* row, ggml_type type, int64_t d, float* out);

// Floats of scratch that any of them needs.
size_t rung_scratch_floats(int64_t n_q, int64_t d_k, int64_t d_v);

}  // namespace curdkv::measure
