// Rows in few bits: keys and values that a press keeps, each less its head's mean and turned by a Hadamard
// matrix, so that elements are of one size and a step for the whole row serves. The mean goes first, as a few
// heads' keys lie far from zero, where turning would smear the distance over all elements.
//  - q8, q5, q4: evenly spaced levels around zero, the step the better of the largest element's and of the
//    best for a Gaussian, then refitted by least squares.
//  - q3: the eight levels that are best for a Gaussian (Max, "Quantizing for minimum distortion", 1960; Lloyd
//    1982), in whole numbers, +-{13, 40, 71, 114} / 53 of the root mean square; the scale refitted likewise.
//  - f16: no levels.
// Q4_0 and its kin have a scale for each 32 elements. Of turned rows one serves: in 64 elements it costs
// 1.3 dB and saves what 1.5 dB would cost.
#pragma once

#include <ggml.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "curdkv/press.h"

namespace curdkv {

inline constexpr int64_t kRowAlign = 16;       // elements: rows are padded to whole vectors
inline constexpr int64_t kMostRowSize = 1024;  // elements

// How codes of a type are written: `bits` in one plane and, of q5 and q3, a bit more in another.
struct RowFormat {
  int bits;      // in the first plane, a divisor of 8; 16 for f16
  bool extra;    // another bit
  float offset;  // value = scale * unit * (level - offset), where level is an unsigned byte
  float unit;    // keeps scales near the elements' size, where F16 is precise
  int n_levels() const { return 1 << (bits + (extra ? 1 : 0)); }
  // Of four codes in a word: what goes to the first plane, and their extra bits.
  uint32_t low_of_four() const { return (0xffu >> (8 - bits)) * 0x01010101u; }
  uint32_t extra_of_four(uint32_t four) const {
    const uint32_t above = four >> bits & 0x01010101u;
    return (above | above >> 7 | above >> 14 | above >> 21) & 15;
  }
};
const RowFormat& row_format(RowType type);
uint8_t row_level(RowType type, int code);  // of a code below n_levels()

// Levels of q3's codes, whose bit above two says that the level is negative.
inline constexpr uint8_t kLevels3[8] = {128 + 13, 128 + 40, 128 + 71, 128 + 114,
                                        128 - 13, 128 - 40, 128 - 71, 128 - 114};

inline int64_t padded_row(int64_t d) {
  return (d + kRowAlign - 1) / kRowAlign * kRowAlign;
}

// A row alone: an F16 scale; units of four bytes, byte b of unit u holding elements 4 (u P + p) + b, p < P =
// 8 / bits, lowest bits first; then the extra bits of the elements. Of f16, the elements.
int64_t encoded_row_bytes(RowType type, int64_t d);

// x: F32 [d, n], centred and turned. to: n times encoded_row_bytes(type, d). Quickest by kRowsTogether.
inline constexpr int64_t kRowsTogether = 16;
void encode_rows(RowType type, const float* x, int64_t n, int64_t d, char* to);

struct RowCodes {
  uint16_t scale;           // F16
  std::span<uint8_t> code;  // [padded_row(d)]
};
// An encoded row taken apart, not of f16. codes.code: the caller's memory.
void take_apart(RowType type, const char* row, int64_t d, RowCodes& codes);

// A row of a layer that is read, F16 or F32, as F32 [d].
void widen_row(ggml_type type, const char* row, int64_t d, float* x);

// The mean of n such rows of at most kMostRowSize elements, `stride` bytes apart, turned: F16
// [padded_row(d)].
void turned_mean(ggml_type type, const char* rows, size_t stride, int64_t n, int64_t d, ggml_fp16_t* mean);

// What an encoded row stands for: F32 [d], still centred and turned.
void decode_row(RowType type, const char* row, int64_t d, float* x);

// Turns n rows, F32 [d, n], by the orthonormal Hadamard matrix of the largest power of two that divides d,
// block by block. Done twice it changes nothing.
void turn_rows(float* x, int64_t n, int64_t d);
inline void turn_row(float* x, int64_t d) {
  turn_rows(x, 1, d);
}
// And takes the mean, F32 [d], turned, from each.
void turn_and_centre_rows(float* x, int64_t n, int64_t d, const float* mean);

}  // namespace curdkv
