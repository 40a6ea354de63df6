// What encoding rows takes most of its time for, vectorised by Highway: row_codec.cpp's own. Several rows are
// at work at once, each step done for all of them before the next, as in one row steps wait for each other.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cache/row_codec.h"

namespace curdkv {

// Rows at work: kRowsTogether at most, and no more than these elements, padding included.
inline constexpr int64_t kElementsTogether = 2048;
struct CodedRows {
  int64_t n, d;
  float x[kElementsTogether];          // [n][padded_row(d)], zero beyond d
  uint8_t code[2][kElementsTogether];  // likewise, of two ways to choose them
  float scale[kRowsTogether];          // what one level stands for
  int better[kRowsTogether];           // of the two
};
inline int64_t rows_together(int64_t d) {
  return std::min(kRowsTogether, kElementsTogether / padded_row(d));
}

// Codes by levels of a type, not f16.
void choose_codes(RowType type, CodedRows& rows);

// sum: F32 [d], of n rows, F16 or F32 [d], `stride` bytes apart, added up one after the other.
void sum_rows(ggml_type type, const char* rows, size_t stride, int64_t n, int64_t d, float* sum);

}  // namespace curdkv
