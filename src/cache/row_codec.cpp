#include "cache/row_codec.h"

#include <ggml-cpu.h>

#include <algorithm>
#include <cstring>

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

void encode_row(RowType type, const float* x, int64_t d, char* to) {
  if (type == RowType::f16) {
    std::memset(to, 0, static_cast<size_t>(encoded_row_bytes(type, d)));
    ggml_fp32_to_fp16_row(x, reinterpret_cast<ggml_fp16_t*>(to), d);
    return;
  }
  uint8_t code[kMostRowSize];
  float padded[kMostRowSize];
  const RowFormat& f = row_format(type);
  std::copy_n(x, d, padded);
  std::fill(padded + d, padded + padded_row(d), 0.0f);
  const double scale = choose_codes(type, padded, d, code) / static_cast<double>(f.unit);
  const ggml_fp16_t half = ggml_fp32_to_fp16(std::min(static_cast<float>(scale), 65504.0f));
  std::memcpy(to, &half, 2);
  const int64_t n_fours = padded_row(d) / 4, per_unit = 8 / f.bits;
  const uint32_t low = f.low_of_four();
  char* unit = to + 2;
  for (int64_t i = 0; i < n_fours; i += per_unit, unit += 4) {
    uint32_t word = 0;
    for (int64_t j = 0; j < per_unit; ++j) word |= (four_at(code, i + j) & low) << (j * f.bits);
    std::memcpy(unit, &word, 4);
  }
  for (int64_t i = 0; f.extra && i < n_fours; i += 2) {
    const auto bits = [&](int64_t j) { return f.extra_of_four(four_at(code, j)); };
    *unit++ = static_cast<char>(bits(i) | bits(i + 1) << 4);
  }
}

void take_apart(RowType type, const char* row, int64_t d, RowCodes& codes) {
  const RowFormat& f = row_format(type);
  std::memcpy(&codes.scale, row, 2);
  const auto* unit = reinterpret_cast<const uint8_t*>(row + 2);
  const uint8_t* extra = unit + plane_bytes(f, d);
  const int64_t n_fours = padded_row(d) / 4, per_unit = 8 / f.bits;
  const uint32_t low = f.low_of_four();
  for (int64_t i = 0; i < n_fours; ++i) {
    uint32_t word = four_at(unit, i / per_unit) >> (i % per_unit * f.bits) & low;
    if (f.extra) {
      const uint32_t bits = extra[i / 2] >> (i % 2 * 4) & 15u;
      word |= ((bits & 1) | (bits & 2) << 7 | (bits & 4) << 14 | (bits & 8) << 21) << f.bits;
    }
    std::memcpy(codes.code.data() + 4 * i, &word, 4);
  }
}

void widen_row(ggml_type type, const char* row, int64_t d, float* x) {
  if (type == GGML_TYPE_F32) {
    std::memcpy(x, row, static_cast<size_t>(d) * sizeof(float));
  } else {
    ggml_cpu_fp16_to_fp32(reinterpret_cast<const ggml_fp16_t*>(row), x, d);
  }
}

void decode_row(RowType type, const char* row, int64_t d, float* x) {
  if (type == RowType::f16) return ggml_fp16_to_fp32_row(reinterpret_cast<const ggml_fp16_t*>(row), x, d);
  uint8_t code[kMostRowSize];
  RowCodes codes = {0, std::span(code).first(static_cast<size_t>(padded_row(d)))};
  take_apart(type, row, d, codes);
  const RowFormat& f = row_format(type);
  const float scale = ggml_fp16_to_fp32(codes.scale) * f.unit;
  for (int64_t i = 0; i < d; ++i) x[i] = scale * (static_cast<float>(row_level(type, code[i])) - f.offset);
}

}  // namespace curdkv
