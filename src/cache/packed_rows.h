// Encoded rows of one head, laid out for kernels that multiply whole numbers: four elements of a key, or the
// same element of four values, side by side in the lanes that a row's, or an element's, sum is made in.
// Keys: groups of 16 rows. A group of m rows (the last one's m is made even) is units of 4 m bytes, byte
// 4 r + b of unit u holding elements 4 (u P + p) + b of row r, p < P = 8 / bits, lowest bits first; then the
// extra bits of each four elements, 4 m bits a time.
// Values: blocks of 128 rows. A block of m rows (the last one's is made a multiple of 4 P) is, for each 16
// elements, units of 64 bytes, byte 4 i + b of unit u holding element i of rows 4 (u P + p) + b; then, for
// each 16 elements, the extra bits of each four rows, 64 bits a time.
// The scales of all rows come first, those of padding 0, filled up to whole cache lines, so that units lie on
// them too. f16: rows of padded elements, one after another.
#pragma once

#include <cstdint>
#include <span>

#include "cache/row_codec.h"

namespace curdkv {

inline constexpr int64_t kKeyGroup = 16;      // rows
inline constexpr int64_t kValueBlock = 128;   // rows
inline constexpr int64_t kPackedSlack = 128;  // bytes behind the last row that kernels may read

// Rows of a head, K or V. The memory is somebody else's.
struct PackedRows {
  RowType type = RowType::f16;
  int64_t d = 0;                // elements
  int64_t n = 0;                // rows
  char* data = nullptr;         // packed_*_bytes(), and kPackedSlack bytes that may be read
  ggml_fp16_t* mean = nullptr;  // [padded_row(d)], turned: what was taken from every row
};

int64_t packed_key_bytes(RowType type, int64_t d, int64_t n);
int64_t packed_value_bytes(RowType type, int64_t d, int64_t n);

// Numbers in F16 that come first: scales, those of padding included; or, of f16, all elements.
int64_t packed_key_halves(const PackedRows& rows);
int64_t packed_value_halves(const PackedRows& rows);

// What kernels find of a group of keys or a block of values with m rows, padding included.
struct PackedPiece {
  int64_t m;      // rows, with padding
  int64_t plane;  // bytes before its first unit, extra bits and scales, from the rows' beginning
  int64_t extra;
  int64_t scales;
};
PackedPiece key_group(const PackedRows& rows, int64_t first_row);    // a multiple of kKeyGroup
PackedPiece value_block(const PackedRows& rows, int64_t first_row);  // a multiple of kValueBlock

// Lays out encoded rows, kRowsTogether or the last ones, as the i-th (a multiple of that) and those behind
// it.
void put_keys(const PackedRows& rows, int64_t i, std::span<const char* const> encoded);
void put_values(const PackedRows& rows, int64_t i, std::span<const char* const> encoded);

// Element j of row i as its code has it, and the row's scale; of types with codes.
uint8_t key_level(const PackedRows& rows, int64_t i, int64_t j);
uint8_t value_level(const PackedRows& rows, int64_t i, int64_t j);
float key_scale(const PackedRows& rows, int64_t i);

// Row i as it was before centring and turning: F32 [d].
void unpack_key(const PackedRows& rows, int64_t i, float* x);
void unpack_value(const PackedRows& rows, int64_t i, float* x);

}  // namespace curdkv
