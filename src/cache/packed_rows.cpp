#include "cache/packed_rows.h"

#include <algorithm>
#include <cstring>

namespace curdkv {
namespace {

int64_t round_up_to(int64_t n, int64_t m) {
  return (n + m - 1) / m * m;
}

int64_t rows_per_unit(const RowFormat& f) {  // of values
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

// Row r of a block of values: a byte, and a bit, of every fourth.
void put_in_block(const PackedRows& rows, const PackedPiece& p, int64_t r, const char* encoded) {
  const RowFormat& f = row_format(rows.type);
  uint8_t code[kMostRowSize];
  RowCodes codes = {0, std::span(code).first(static_cast<size_t>(padded_row(rows.d)))};
  take_apart(rows.type, encoded, rows.d, codes);
  const int low = (1 << f.bits) - 1;
  for (int64_t i = 0; i < padded_row(rows.d); i += 16) {
    const Place at = value_place(f, p.m, r, i);
    auto* bytes = reinterpret_cast<uint8_t*>(rows.data + p.plane + at.byte);
    for (int64_t j = 0; j < 16; ++j)
      bytes[4 * j] = static_cast<uint8_t>(bytes[4 * j] | (code[i + j] & low) << at.shift);
    if (!f.extra) continue;
    uint64_t bits = 0, before;
    for (int64_t j = 0; j < 16; ++j) bits |= static_cast<uint64_t>(code[i + j] >> f.bits) << (4 * j);
    char* word = rows.data + p.extra + at.bit / 64 * 8;
    std::memcpy(&before, word, 8);
    before |= bits << (at.bit % 64);
    std::memcpy(word, &before, 8);
  }
  std::memcpy(rows.data + p.scales + 2 * r, &codes.scale, 2);
}

// Row r of a group of keys: its units and extra bits, apart.
void put_in_group(const PackedRows& rows, const PackedPiece& p, int64_t r, const char* encoded) {
  const RowFormat& f = row_format(rows.type);
  const int64_t n_fours = padded_row(rows.d) / 4, n_units = n_fours * f.bits / 8;
  for (int64_t u = 0; u < n_units; ++u)
    std::memcpy(rows.data + p.plane + 4 * (u * p.m + r), encoded + 2 + 4 * u, 4);
  for (int64_t i = 0; f.extra && i < n_fours; ++i) {
    const int bits = static_cast<uint8_t>(encoded[2 + 4 * n_units + i / 2]) >> (i % 2 * 4) & 15;
    const int64_t at = 4 * (i * p.m + r);
    auto& byte = reinterpret_cast<uint8_t&>(rows.data[p.extra + at / 8]);
    byte = static_cast<uint8_t>(byte | bits << (at % 8));
  }
  std::memcpy(rows.data + p.scales + 2 * r, encoded, 2);
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

void put_f16(const PackedRows& rows, int64_t i, const char* encoded) {
  std::memcpy(f16_row(rows, i), encoded, static_cast<size_t>(encoded_row_bytes(RowType::f16, rows.d)));
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

void put_key(const PackedRows& rows, int64_t i, const char* encoded) {
  if (rows.type == RowType::f16) return put_f16(rows, i, encoded);
  const int64_t r = i % kKeyGroup;
  put_in_group(rows, key_group(rows, i - r), r, encoded);
}

void put_value(const PackedRows& rows, int64_t i, const char* encoded) {
  if (rows.type == RowType::f16) return put_f16(rows, i, encoded);
  const int64_t r = i % kValueBlock;
  put_in_block(rows, value_block(rows, i - r), r, encoded);
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
