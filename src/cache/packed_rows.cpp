#include "cache/packed_rows.h"

#include <algorithm>
#include <cstring>

namespace curdkv {
namespace {

int64_t round_up_to(int64_t n, int64_t m) {
  return (n + m - 1) / m * m;
}

int64_t rows_per_unit(const RowFormat& f) {  // of values; a divisor of kRowsTogether
  return 4 * (8 / f.bits);
}

// Of the codes of m rows.
int64_t piece_bytes(const RowFormat& f, int64_t d, int64_t m) {
  return padded_row(d) * m * (f.bits + (f.extra ? 1 : 0)) / 8;
}

// Of the scales of m rows.
int64_t scale_bytes(int64_t m) {
  return round_up_to(2 * m, 64);
}

int64_t padded_keys(int64_t n) {
  return n / kKeyGroup * kKeyGroup + round_up_to(n % kKeyGroup, 2);
}
int64_t padded_values(const RowFormat& f, int64_t n) {
  return round_up_to(n, rows_per_unit(f));
}

// m of n rows, padding included, from row `first` on.
PackedPiece piece(const RowFormat& f, int64_t d, int64_t first, int64_t m, int64_t n) {
  const int64_t plane = scale_bytes(n) + piece_bytes(f, d, first);
  return {m, plane, plane + padded_row(d) * m * f.bits / 8, 2 * first};
}

// Where an element's code lies: a byte and a shift in the plane, a bit in the extra bits.
struct Place {
  int64_t byte;
  int shift;
  int64_t bit;
};

Place key_place(const RowFormat& f, int64_t m, int64_t r, int64_t i) {
  const int64_t per_byte = 8 / f.bits, four = i / 4;
  return {four / per_byte * 4 * m + 4 * r + i % 4, static_cast<int>(four % per_byte) * f.bits,
          four * 4 * m + 4 * r + i % 4};
}

Place value_place(const RowFormat& f, int64_t m, int64_t r, int64_t i) {
  const int64_t per_byte = 8 / f.bits, four = r / 4, of_16 = i / 16, lane = i % 16 * 4 + r % 4;
  return {(of_16 * (m / (4 * per_byte)) + four / per_byte) * 64 + lane,
          static_cast<int>(four % per_byte) * f.bits, (of_16 * (m / 4) + four) * 64 + lane};
}

using PlaceOf = Place (*)(const RowFormat&, int64_t m, int64_t r, int64_t i);

// Rows from the r-th on of a block of values, as many as share bytes, or the last ones.
void put_in_unit(const PackedRows& rows, const PackedPiece& p, int64_t r,
                 std::span<const char* const> encoded) {
  const RowFormat& f = row_format(rows.type);
  const int64_t width = padded_row(rows.d), n_fours = 8 / f.bits, unit = r / (4 * n_fours);
  uint8_t code[kRowsTogether][kMostRowSize];
  for (int64_t j = 0; j < 4 * n_fours; ++j) {
    RowCodes codes = {0, std::span(code[j]).first(static_cast<size_t>(width))};
    if (j < std::ssize(encoded)) {
      take_apart(rows.type, encoded[static_cast<size_t>(j)], rows.d, codes);
    } else {
      std::fill_n(code[j], width, uint8_t{0});
    }
    std::memcpy(rows.data + p.scales + 2 * (r + j), &codes.scale, 2);
  }
  for (int64_t c = 0; c < width; c += 16) {
    uint32_t word[16] = {};
    for (int64_t k = 0; k < n_fours; ++k) {
      const uint8_t(*of)[kMostRowSize] = code + 4 * k;
      uint32_t four[16];
      for (int64_t j = 0; j < 16; ++j) {
        four[j] = of[0][c + j] | static_cast<uint32_t>(of[1][c + j]) << 8 |
                  static_cast<uint32_t>(of[2][c + j]) << 16 | static_cast<uint32_t>(of[3][c + j]) << 24;
        word[j] |= (four[j] & f.low_of_four()) << (k * f.bits);
      }
      if (!f.extra) continue;
      uint64_t bits = 0;
      for (int64_t j = 0; j < 16; ++j) bits |= static_cast<uint64_t>(f.extra_of_four(four[j])) << (4 * j);
      std::memcpy(rows.data + p.extra + (c / 16 * (p.m / 4) + r / 4 + k) * 8, &bits, 8);
    }
    std::memcpy(rows.data + p.plane + (c / 16 * (p.m / (4 * n_fours)) + unit) * 64, word, 64);
  }
}

// The first rows of a group of keys.
void put_in_group(const PackedRows& rows, const PackedPiece& p, std::span<const char* const> encoded) {
  const RowFormat& f = row_format(rows.type);
  const int64_t n_fours = padded_row(rows.d) / 4, n_units = n_fours * f.bits / 8;
  for (int64_t r = 0; r < std::ssize(encoded); ++r) {
    const char* row = encoded[static_cast<size_t>(r)];
    std::memcpy(rows.data + p.scales + 2 * r, row, 2);
    for (int64_t u = 0; u < n_units; ++u)
      std::memcpy(rows.data + p.plane + 4 * (u * p.m + r), row + 2 + 4 * u, 4);
    for (int64_t i = 0; f.extra && i < n_fours; ++i) {
      const int bits = static_cast<uint8_t>(row[2 + 4 * n_units + i / 2]) >> (i % 2 * 4) & 15;
      auto& byte = reinterpret_cast<uint8_t&>(rows.data[p.extra + (i * p.m + r) / 2]);  // of two rows
      byte = static_cast<uint8_t>(r % 2 == 0 ? bits : byte | bits << 4);
    }
  }
}

uint8_t level(const PackedRows& rows, const PackedPiece& p, const Place& at) {
  const RowFormat& f = row_format(rows.type);
  int code = static_cast<uint8_t>(rows.data[p.plane + at.byte]) >> at.shift & ((1 << f.bits) - 1);
  if (f.extra) code |= (static_cast<uint8_t>(rows.data[p.extra + at.bit / 8]) >> (at.bit % 8) & 1) << f.bits;
  return row_level(rows.type, code);
}

float scale_of(const PackedRows& rows, const PackedPiece& p, int64_t r) {
  ggml_fp16_t half;
  std::memcpy(&half, rows.data + p.scales + 2 * r, 2);
  return ggml_fp16_to_fp32(half);
}

void take(const PackedRows& rows, const PackedPiece& p, int64_t r, float* x, PlaceOf place_of) {
  const RowFormat& f = row_format(rows.type);
  const float scale = scale_of(rows, p, r) * f.unit;
  for (int64_t i = 0; i < rows.d; ++i)
    x[i] = scale * (static_cast<float>(level(rows, p, place_of(f, p.m, r, i))) - f.offset);
}

char* f16_row(const PackedRows& rows, int64_t i) {
  return rows.data + i * encoded_row_bytes(RowType::f16, rows.d);
}

void put_f16(const PackedRows& rows, int64_t i, std::span<const char* const> encoded) {
  for (const char* row : encoded)
    std::memcpy(f16_row(rows, i++), row, static_cast<size_t>(encoded_row_bytes(RowType::f16, rows.d)));
}

// Adds the mean and turns it back.
void finish(const PackedRows& rows, float* x) {
  for (int64_t i = 0; i < rows.d; ++i) x[i] += ggml_fp16_to_fp32(rows.mean[i]);
  turn_row(x, rows.d);
}

}  // namespace

int64_t packed_key_bytes(RowType type, int64_t d, int64_t n) {
  if (type == RowType::f16) return n * encoded_row_bytes(type, d);
  return scale_bytes(padded_keys(n)) + piece_bytes(row_format(type), d, padded_keys(n));
}

int64_t packed_value_bytes(RowType type, int64_t d, int64_t n) {
  if (type == RowType::f16) return n * encoded_row_bytes(type, d);
  const RowFormat& f = row_format(type);
  return scale_bytes(padded_values(f, n)) + piece_bytes(f, d, padded_values(f, n));
}

int64_t packed_key_halves(const PackedRows& rows) {
  return rows.type == RowType::f16 ? rows.n * padded_row(rows.d) : scale_bytes(padded_keys(rows.n)) / 2;
}
int64_t packed_value_halves(const PackedRows& rows) {
  return rows.type == RowType::f16 ? rows.n * padded_row(rows.d)
                                   : scale_bytes(padded_values(row_format(rows.type), rows.n)) / 2;
}

PackedPiece key_group(const PackedRows& rows, int64_t first_row) {
  const int64_t n = padded_keys(rows.n);
  return piece(row_format(rows.type), rows.d, first_row, std::min(kKeyGroup, n - first_row), n);
}

PackedPiece value_block(const PackedRows& rows, int64_t first_row) {
  const RowFormat& f = row_format(rows.type);
  const int64_t n = padded_values(f, rows.n);
  return piece(f, rows.d, first_row, std::min(kValueBlock, n - first_row), n);
}

void put_keys(const PackedRows& rows, int64_t i, std::span<const char* const> encoded) {
  if (rows.type == RowType::f16) return put_f16(rows, i, encoded);
  put_in_group(rows, key_group(rows, i), encoded);
}

void put_values(const PackedRows& rows, int64_t i, std::span<const char* const> encoded) {
  if (rows.type == RowType::f16) return put_f16(rows, i, encoded);
  const int64_t r = i % kValueBlock, n = rows_per_unit(row_format(rows.type));
  const PackedPiece block = value_block(rows, i - r);
  for (int64_t at = 0; at < std::ssize(encoded); at += n) {
    put_in_unit(
        rows, block, r + at,
        encoded.subspan(static_cast<size_t>(at), static_cast<size_t>(std::min(n, std::ssize(encoded) - at))));
  }
}

uint8_t key_level(const PackedRows& rows, int64_t i, int64_t j) {
  const PackedPiece p = key_group(rows, i / kKeyGroup * kKeyGroup);
  return level(rows, p, key_place(row_format(rows.type), p.m, i % kKeyGroup, j));
}

uint8_t value_level(const PackedRows& rows, int64_t i, int64_t j) {
  const PackedPiece p = value_block(rows, i / kValueBlock * kValueBlock);
  return level(rows, p, value_place(row_format(rows.type), p.m, i % kValueBlock, j));
}

float key_scale(const PackedRows& rows, int64_t i) {
  return scale_of(rows, key_group(rows, i / kKeyGroup * kKeyGroup), i % kKeyGroup);
}

void unpack_key(const PackedRows& rows, int64_t i, float* x) {
  if (rows.type == RowType::f16) {
    decode_row(rows.type, f16_row(rows, i), rows.d, x);
  } else {
    const int64_t r = i % kKeyGroup;
    take(rows, key_group(rows, i - r), r, x, key_place);
  }
  finish(rows, x);
}

void unpack_value(const PackedRows& rows, int64_t i, float* x) {
  if (rows.type == RowType::f16) {
    decode_row(rows.type, f16_row(rows, i), rows.d, x);
  } else {
    const int64_t r = i % kValueBlock;
    take(rows, value_block(rows, i - r), r, x, value_place);
  }
  finish(rows, x);
}

}  // namespace curdkv
