#include "compute/products/int8_unpack.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace curdkv {
namespace {

// F16 is F32 with fewer bits, but for where its exponents begin.
inline float half_at(const uint8_t* at) {
  uint16_t h;
  std::memcpy(&h, at, sizeof h);
  const uint32_t no_number = (h & 0x7c00) == 0x7c00 ? 0x7f800000 : 0, sign = static_cast<uint32_t>(h & 0x8000)
                                                                             << 16;
  const float size = std::bit_cast<float>(static_cast<uint32_t>(h & 0x7fff) << 13) * 0x1p112f;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(size) | no_number | sign);
}

// Low nibbles are the first 16 weights, high ones the rest.
void read_nibbles(const uint8_t* at, int8_t* q) {
  for (int j = 0; j < 16; ++j) q[j] = static_cast<int8_t>(at[j] & 15);
  for (int j = 0; j < 16; ++j) q[j + 16] = static_cast<int8_t>(at[j] >> 4);
}

// Bit j of the 32 at `at` is worth 16 in weight j.
void add_fifth_bits(const uint8_t* at, int8_t* q) {
  for (int j = 0; j < 32; ++j) q[j] = static_cast<int8_t>(q[j] + ((at[j / 8] >> (j % 8)) & 1) * 16);
}

void subtract(int8_t* q, int n) {
  for (int j = 0; j < 32; ++j) q[j] = static_cast<int8_t>(q[j] - n);
}

void unpack_q4_0(const uint8_t* row, std::span<Int8Block> to) {
  for (Int8Block& b : to) {
    read_nibbles(row + 2, b.q.data());
    subtract(b.q.data(), 8);
    b.scale = half_at(row);
    b.min = 0;
    row += 18;
  }
}

void unpack_q4_1(const uint8_t* row, std::span<Int8Block> to) {
  for (Int8Block& b : to) {
    read_nibbles(row + 4, b.q.data());
    b.scale = half_at(row);
    b.min = half_at(row + 2);
    row += 20;
  }
}

void unpack_q5_0(const uint8_t* row, std::span<Int8Block> to) {
  for (Int8Block& b : to) {
    read_nibbles(row + 6, b.q.data());
    add_fifth_bits(row + 2, b.q.data());
    subtract(b.q.data(), 16);
    b.scale = half_at(row);
    b.min = 0;
    row += 22;
  }
}

void unpack_q5_1(const uint8_t* row, std::span<Int8Block> to) {
  for (Int8Block& b : to) {
    read_nibbles(row + 8, b.q.data());
    add_fifth_bits(row + 4, b.q.data());
    b.scale = half_at(row);
    b.min = half_at(row + 2);
    row += 24;
  }
}

void unpack_q8_0(const uint8_t* row, std::span<Int8Block> to) {
  for (Int8Block& b : to) {
    std::memcpy(b.q.data(), row + 2, sizeof b.q);
    b.scale = half_at(row);
    b.min = 0;
    row += 34;
  }
}

// Eight blocks share two F16 factors, and have 6 bits each for scale and minimum, packed into 12 bytes.
void read_k_scales(const uint8_t* at, Int8Block* blocks) {
  const float d = half_at(at), d_min = half_at(at + 2);
  const uint8_t* s = at + 4;
  for (int j = 0; j < 8; ++j) {
    const int scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
    const int min = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | (s[j] >> 6) << 4;
    blocks[j].scale = d * static_cast<float>(scale);
    blocks[j].min = -d_min * static_cast<float>(min);
  }
}

// Two blocks share 32 bytes: the first has the low nibbles, the second the high ones.
void read_k_nibbles(const uint8_t* at, Int8Block* blocks) {
  for (int j = 0; j < 8; ++j, at += j % 2 == 0 ? 32 : 0) {
    for (size_t i = 0; i < 32; ++i) blocks[j].q[i] = static_cast<int8_t>(at[i] >> (j % 2 * 4) & 15);
  }
}

void unpack_q4_k(const uint8_t* row, std::span<Int8Block> to) {
  for (size_t b = 0; b < to.size(); b += 8, row += 144) {
    read_k_scales(row, &to[b]);
    read_k_nibbles(row + 16, &to[b]);
  }
}

void unpack_q5_k(const uint8_t* row, std::span<Int8Block> to) {
  for (size_t b = 0; b < to.size(); b += 8, row += 176) {
    read_k_scales(row, &to[b]);
    read_k_nibbles(row + 48, &to[b]);
    const uint8_t* fifth = row + 16;  // bit j of byte i belongs to weight i of block j
    for (size_t j = 0; j < 8; ++j) {
      for (size_t i = 0; i < 32; ++i)
        to[b + j].q[i] = static_cast<int8_t>(to[b + j].q[i] + (fifth[i] >> j & 1) * 16);
    }
  }
}

void quantise(const float* x, Int8Block& b) {
  float most = 0;
  for (int64_t i = 0; i < kInt8Block; ++i) most = std::max(most, std::fabs(x[i]));
  b.scale = most / 127;
  b.min = 0;
  const float inverse = most > 0 ? 127 / most : 0;
  for (size_t i = 0; i < kInt8Block; ++i) b.q[i] = static_cast<int8_t>(std::lrintf(x[i] * inverse));
}

using Unpack = void (*)(const uint8_t* row, std::span<Int8Block> to);

Unpack exact_unpack(ggml_type type) {
  switch (type) {
    case GGML_TYPE_Q4_0:
      return unpack_q4_0;
    case GGML_TYPE_Q4_1:
      return unpack_q4_1;
    case GGML_TYPE_Q5_0:
      return unpack_q5_0;
    case GGML_TYPE_Q5_1:
      return unpack_q5_1;
    case GGML_TYPE_Q8_0:
      return unpack_q8_0;
    case GGML_TYPE_Q4_K:
      return unpack_q4_k;
    case GGML_TYPE_Q5_K:
      return unpack_q5_k;
    default:
      return nullptr;
  }
}

}  // namespace

bool has_minima(ggml_type type) {
  return type == GGML_TYPE_Q4_1 || type == GGML_TYPE_Q5_1 || type == GGML_TYPE_Q4_K || type == GGML_TYPE_Q5_K;
}

bool unpacks_exactly(ggml_type type) {
  return exact_unpack(type) != nullptr;
}

void unpack_row(const WeightMatrix& w, int64_t row, std::span<Int8Block> to, float* floats) {
  if (const Unpack unpack = exact_unpack(w.type))
    return unpack(reinterpret_cast<const uint8_t*>(w.row(row)), to);
  ggml_get_type_traits(w.type)->to_float(w.row(row), floats, w.n_in);
  for (size_t b = 0; b < to.size(); ++b) quantise(floats + b * kInt8Block, to[b]);
}

}  // namespace curdkv
