#include "compute/products/row_kernel.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

// Loops that compilers turn into vectors, with the same bits on every processor of a kind.
namespace curdkv {
namespace {

// Adding it and taking it away again rounds a number below 2^22 to the nearest integer, which then stands in
// the lowest bits of the sum.
constexpr float kRounds = 12582912.0f;  // 1.5 x 2^23

int32_t rounded(float x) {
  return std::bit_cast<int32_t>(x + kRounds) - std::bit_cast<int32_t>(kRounds);
}

void quantise_block(const float* x, char* to) {
  RowInput in = {};
  float most = 0;
  for (int64_t i = 0; i < kRowBlock; ++i) most = std::max(most, std::fabs(x[i]));
  const float inverse = most > 0 ? 127 / most : 0;
  int8_t q[kRowBlock];
  for (int64_t i = 0; i < kRowBlock; ++i) q[i] = static_cast<int8_t>(rounded(x[i] * inverse));
  std::memcpy(in.q, q, sizeof q);
  int32_t sum = 0;
  for (int64_t i = 0; i < 8; ++i) {
    in.minus_sums[i] = -(q[4 * i] + q[4 * i + 1] + q[4 * i + 2] + q[4 * i + 3]);
    sum -= in.minus_sums[i];
  }
  in.scale = most / 127;
  in.sum = in.scale * static_cast<float>(sum);
  std::memcpy(to, &in, sizeof in);
}

// e^x within 2 in the last place; 0 far below, and large but finite far above.
float exponential(float x) {
  x = std::min(std::max(x, -87.0f), 88.0f);
  const int32_t n = rounded(x * 1.44269504f);  // of ln 2
  const auto times = static_cast<float>(n);
  const float r = (x - times * 0.693145752f) - times * 1.42860677e-6f;
  float p = 1.38888889e-3f;  // Taylor's series
  p = p * r + 8.33333333e-3f;
  p = p * r + 4.16666667e-2f;
  p = p * r + 1.66666667e-1f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  return p * std::bit_cast<float>((static_cast<uint32_t>(n) + 127) << 23);
}

}  // namespace

size_t row_input_bytes(int64_t n_in) {
  return static_cast<size_t>(n_in / kRowBlock) * sizeof(RowInput);
}

void quantise_input(const float* x, int64_t n_in, char* to) {
  for (int64_t b = 0; b < n_in / kRowBlock; ++b, x += kRowBlock, to += sizeof(RowInput))
    quantise_block(x, to);
}

float norm_scale(const float* x, int64_t n, float eps) {
  constexpr int64_t kLanes = 8;
  double sum[kLanes] = {};
  for (int64_t i = 0; i < n; i += kLanes) {
    for (int64_t j = 0; j < std::min(kLanes, n - i); ++j) sum[j] += double{x[i + j]} * double{x[i + j]};
  }
  double all = 0;
  for (const double s : sum) all += s;
  return 1.0f / std::sqrt(static_cast<float>(all / static_cast<double>(n)) + eps);
}

void quantise_normed(const float* x, float scale, const float* weight, int64_t n, char* to) {
  for (int64_t b = 0; b < n; b += kRowBlock, to += sizeof(RowInput)) {
    float normed[kRowBlock];
    for (int64_t i = 0; i < kRowBlock; ++i) normed[i] = x[b + i] * scale * weight[b + i];
    quantise_block(normed, to);
  }
}

void multiply_by_silu(float* x, const float* by, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] = x[i] / (1 + exponential(-x[i])) * by[i];
}

}  // namespace curdkv
