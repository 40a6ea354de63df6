// The inner loops of a token's products with quantised weights, and of what lies between them.
#pragma once

#include <ggml.h>

#include <cstddef>
#include <cstdint>

namespace curdkv {

inline constexpr int64_t kRowBlock = 32;

// A block of inputs in 8 bits.
struct RowInput {
  int8_t q[kRowBlock];
  int32_t minus_sums[8];  // the negated sum of every 4 of them
  float scale;
  float sum;  // of the inputs
  float unused[2];
};

// Whether this processor can, and rows of this type and length are taken.
bool row_kernel_takes(ggml_type type, int64_t n_in);

// Bytes of n_in quantised inputs.
size_t row_input_bytes(int64_t n_in);

// Inputs x, F32 [n_in], in 8 bits.
void quantise_input(const float* x, int64_t n_in, char* to);

// The root-mean-square norm of x, F32 [n]: what its elements are multiplied by before their weights.
float norm_scale(const float* x, int64_t n, float eps);
// x scale weight, F32 [n], in 8 bits; n: a multiple of kRowBlock.
void quantise_normed(const float* x, float scale, const float* weight, int64_t n, char* to);

// x[i] becomes silu(x[i]) by[i], where silu(x) = x / (1 + e^-x).
void multiply_by_silu(float* x, const float* by, int64_t n);

// out[c out_stride + r] = row r of the weights times column c of the inputs, which lie row_input_bytes(n_in)
// apart, for n_rows rows and n_columns columns. A column has the same bits in whatever company.
void multiply_rows(ggml_type type, const char* rows, int64_t n_rows, int64_t n_in, const char* inputs,
                   int64_t n_columns, float* out, int64_t out_stride);

}  // namespace curdkv
