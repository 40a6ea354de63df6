#include "cache/row_codec.h"

#include <ggml-cpu.h>

#include <algorithm>
#include <cstring>
#include <functional>

#include "cache/codec_kernel.h"

namespace curdkv {
namespace {

constexpr RowFormat kF16 = {16, false, 0, 1};
constexpr RowFormat kQ8 = {8, false, 127.5f, 1.0f / 64};
constexpr RowFormat kQ5 = {4, true, 15.5f, 1.0f / 8};
constexpr RowFormat kQ4 = {4, false, 7.5f, 1.0f / 4};
constexpr RowFormat kQ3 = {2, true, 128, 1.0f / 32};

// Four codes, or a unit.
uint32_t four_at(const uint8_t* bytes, int64_t i) {
  uint32_t word;
  std::memcpy(&word, bytes + 4 * i, 4);
  return word;
}

int64_t plane_bytes(const RowFormat& f, int64_t d) {
  return padded_row(d) * f.bits / 8;
}

// A row's codes, where they belong.
void write_codes(const RowFormat& f, const uint8_t* code, float scale, int64_t d, char* to) {
  const ggml_fp16_t half = ggml_fp32_to_fp16(std::min(scale / f.unit, 65504.0f));
  std::memcpy(to, &half, 2);
  const int64_t n_fours = padded_row(d) / 4, per_unit = 8 / f.bits;
  char* unit = to + 2;
  for (int64_t i = 0; i < n_fours; i += per_unit, unit += 4) {
    uint32_t word = 0;
    for (int64_t j = 0; j < per_unit; ++j) word |= (four_at(code, i + j) & f.low_of_four()) << (j * f.bits);
    std::memcpy(unit, &word, 4);
  }
  for (int64_t i = 0; f.extra && i < n_fours; i += 2)
    *unit++ =
        static_cast<char>(f.extra_of_four(four_at(code, i)) | f.extra_of_four(four_at(code, i + 1)) << 4);
}

}  // namespace

const RowFormat& row_format(RowType type) {
  switch (type) {
    case RowType::q8:
      return kQ8;
    case RowType::q5:
      return kQ5;
    case RowType::q4:
      return kQ4;
    case RowType::q3:
      return kQ3;
    default:
      return kF16;
  }
}

uint8_t row_level(RowType type, int code) {
  return type == RowType::q3 ? kLevels3[code] : static_cast<uint8_t>(code);
}

int64_t encoded_row_bytes(RowType type, int64_t d) {
  const RowFormat& f = row_format(type);
  const int64_t scale = type == RowType::f16 ? 0 : 2;
  return scale + plane_bytes(f, d) + (f.extra ? padded_row(d) / 8 : 0);
}

void encode_rows(RowType type, const float* x, int64_t n, int64_t d, char* to) {
  const int64_t width = padded_row(d), bytes = encoded_row_bytes(type, d);
  if (type == RowType::f16) {
    std::memset(to, 0, static_cast<size_t>(n * bytes));
    for (int64_t r = 0; r < n; ++r)
      ggml_fp32_to_fp16_row(x + r * d, reinterpret_cast<ggml_fp16_t*>(to + r * bytes), d);
    return;
  }
  CodedRows rows;
  rows.d = d;
  for (int64_t at = 0; at < n; at += rows.n) {
    rows.n = std::min(rows_together(d), n - at);
    for (int64_t r = 0; r < rows.n; ++r) {
      std::copy_n(x + (at + r) * d, d, rows.x + r * width);
      std::fill_n(rows.x + r * width + d, width - d, 0.0f);
    }
    choose_codes(type, rows);
    for (int64_t r = 0; r < rows.n; ++r)
      write_codes(row_format(type), rows.code[rows.better[r]] + r * width, rows.scale[r], d,
                  to + (at + r) * bytes);
  }
}

void turn_and_centre_rows(float* x, int64_t n, int64_t d, const float* mean) {
  turn_rows(x, n, d);
  for (int64_t r = 0; r < n; ++r, x += d) std::transform(x, x + d, mean, x, std::minus<>());
}

void take_apart(RowType type, const char* row, int64_t d, RowCodes& codes) {
  const RowFormat& f = row_format(type);
  std::memcpy(&codes.scale, row, 2);
  const auto* unit = reinterpret_cast<const uint8_t*>(row + 2);
  const uint8_t* extra = unit + plane_bytes(f, d);
  const int64_t n_fours = padded_row(d) / 4, per_unit = 8 / f.bits;
  uint8_t* code = codes.code.data();
  for (int64_t i = 0; i < n_fours; i += per_unit, unit += 4) {
    const uint32_t word = four_at(unit, 0);
    for (int64_t j = 0; j < per_unit; ++j) {
      uint32_t four = word >> (j * f.bits) & f.low_of_four();
      if (f.extra) {
        const uint32_t bits = extra[(i + j) / 2] >> ((i + j) % 2 * 4) & 15u;
        four |= ((bits & 1) | (bits & 2) << 7 | (bits & 4) << 14 | (bits & 8) << 21) << f.bits;
      }
      std::memcpy(code + 4 * (i + j), &four, 4);
    }
  }
}

void widen_row(ggml_type type, const char* row, int64_t d, float* x) {
  if (type == GGML_TYPE_F32) {
    std::memcpy(x, row, static_cast<size_t>(d) * sizeof(float));
  } else {
    ggml_cpu_fp16_to_fp32(reinterpret_cast<const ggml_fp16_t*>(row), x, d);
  }
}

void turned_mean(ggml_type type, const char* rows, size_t stride, int64_t n, int64_t d, ggml_fp16_t* mean) {
  constexpr int64_t kRows = 64;  // added up in F32
  float of_some[kMostRowSize];
  double sum[kMostRowSize] = {};
  for (int64_t first = 0; first < n; first += kRows) {
    sum_rows(type, rows + static_cast<size_t>(first) * stride, stride, std::min(kRows, n - first), d,
             of_some);
    std::transform(sum, sum + d, of_some, sum, std::plus<>());
  }
  for (int64_t i = 0; i < d; ++i) of_some[i] = static_cast<float>(sum[i] / static_cast<double>(n));
  turn_row(of_some, d);
  ggml_fp32_to_fp16_row(of_some, mean, d);
  std::fill(mean + d, mean + padded_row(d), ggml_fp16_t{0});
}

void decode_row(RowType type, const char* row, int64_t d, float* x) {
  if (type == RowType::f16) return ggml_fp16_to_fp32_row(reinterpret_cast<const ggml_fp16_t*>(row), x, d);
  uint8_t code[kMostRowSize];
  RowCodes codes = {0, std::span(code).first(static_cast<size_t>(padded_row(d)))};
  take_apart(type, row, d, codes);
  const RowFormat& f = row_format(type);
  const float scale = ggml_fp16_to_fp32(codes.scale) * f.unit;
  if (type == RowType::q3) std::transform(code, code + d, code, [](uint8_t c) { return kLevels3[c]; });
  for (int64_t i = 0; i < d; ++i) x[i] = scale * (static_cast<float>(code[i]) - f.offset);
}

}  // namespace curdkv
