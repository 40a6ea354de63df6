// What encoding a row takes most of its time for, vectorised by Highway: row_codec.cpp's own.
#pragma once

#include <cstdint>

#include "cache/row_codec.h"

namespace curdkv {

// The codes of x, F32 [padded_row(d)], zero beyond d, by levels of a type, not f16; and what one level stands
// for.
double choose_codes(RowType type, const float* x, int64_t d, uint8_t* code);

}  // namespace curdkv
