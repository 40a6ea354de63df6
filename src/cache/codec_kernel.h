// What encoding a row takes most of its time for, vectorised by Highway. Rows are F32 [padded_row(d)], zero
// beyond d; row_codec.cpp's own.
#pragma once

#include <cstdint>

#include "cache/row_codec.h"

namespace curdkv {

// How x goes with levels chosen for it: sums of x level and of level^2.
struct RowFit {
  float cross, square;
  double scale() const { return square > 0 ? static_cast<double>(cross) / static_cast<double>(square) : 0; }
  // Of the sum of x^2.
  double explained() const { return static_cast<double>(cross) * scale(); }
};

// Codes for evenly spaced levels, `step` apart, of which code c is c - offset.
RowFit fit_evenly(const float* x, int64_t d, float step, float offset, uint8_t* code);
// Codes for the levels of q3 with so much per level.
RowFit fit_gaussian(const float* x, int64_t d, float scale, uint8_t* code);

struct RowSize {
  float rms, most;
};
RowSize size_of_row(const float* x, int64_t d);

}  // namespace curdkv
