#include "cache/row_codec.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

namespace curdkv {
namespace {

constexpr RowFormat kF16 = {16, false, 0, 1};
constexpr RowFormat kQ8 = {8, false, 127.5f, 1.0f / 64};
constexpr RowFormat kQ5 = {4, true, 15.5f, 1.0f / 8};
constexpr RowFormat kQ4 = {4, false, 7.5f, 1.0f / 4};
constexpr RowFormat kQ3 = {2, true, 128, 1.0f / 32};

// Of a Gaussian with variance 1, the step of evenly spaced levels that is best (Max 1960, table 2).
constexpr float kGaussStep8 = 0.0308f, kGaussStep5 = 0.1881f, kGaussStep4 = 0.3352f;

// The bit above two says that the level is negative.
constexpr std::array<uint8_t, 8> kLevels3 = {128 + 13, 128 + 40, 128 + 71, 128 + 114,
                                             128 - 13, 128 - 40, 128 - 71, 128 - 114};
constexpr float kOne3 = 53;  // what 1 is among these levels

struct Fit {
  double cross = 0, square = 0;  // sums of x level and of level^2
  double scale() const { return square > 0 ? cross / square : 0; }
  double explained() const { return square > 0 ? cross * cross / square : 0; }  // of the sum of x^2
};

// Codes of x for evenly spaced levels `step` apart, and the fit of x to them.
Fit evenly(const float* x, int64_t d, float step, float offset, uint8_t* code) {
  const float inverse = step > 0 ? 1 / step : 0, most = 2 * offset;
  float cross = 0, square = 0;
  for (int64_t i = 0; i < d; ++i) {
    const float at = std::floor(x[i] * inverse + offset + 0.5f);
    const float level = at > 0 ? std::min(at, most) : 0.0f;  // of no number 0
    code[i] = static_cast<uint8_t>(level);
    cross += x[i] * (level - offset);
    square += (level - offset) * (level - offset);
  }
  return {cross, square};
}

// Codes of x for the levels of q3 with so much per level, and the fit.
Fit for_gaussian(const float* x, int64_t d, float scale, uint8_t* code) {
  constexpr float kBetween[3] = {(13 + 40) / 2.0f, (40 + 71) / 2.0f, (71 + 114) / 2.0f};
  float cross = 0, square = 0;
  for (int64_t i = 0; i < d; ++i) {
    const float size = std::abs(x[i]);
    const int n = (size > kBetween[0] * scale ? 1 : 0) + (size > kBetween[1] * scale ? 1 : 0) +
                  (size > kBetween[2] * scale ? 1 : 0);
    const auto level = static_cast<float>(kLevels3[static_cast<size_t>(n)] - 128);
    code[i] = static_cast<uint8_t>(n + (x[i] < 0 ? 4 : 0));
    cross += size * level;
    square += level * level;
  }
  return {cross, square};
}

// The codes that go with a scale, and the scale, of one level.
double choose_codes(RowType type, const float* x, int64_t d, uint8_t* code) {
  float squares = 0, most = 0;
  for (int64_t i = 0; i < d; ++i) {
    squares += x[i] * x[i];
    most = std::max(most, std::abs(x[i]));
  }
  const float rms = std::sqrt(squares / static_cast<float>(d));
  if (type == RowType::q3) {
    const Fit first = for_gaussian(x, d, rms / kOne3, code);
    return for_gaussian(x, d, static_cast<float>(first.scale()), code).scale();
  }
  const float offset = row_format(type).offset;
  const float gauss = type == RowType::q4 ? kGaussStep4 : type == RowType::q5 ? kGaussStep5 : kGaussStep8;
  const Fit by_rms = evenly(x, d, rms * gauss, offset, code);
  if (const Fit by_most = evenly(x, d, most / offset, offset, code);
      by_most.explained() >= by_rms.explained())
    return by_most.scale();
  return evenly(x, d, rms * gauss, offset, code).scale();
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
  return type == RowType::q3 ? kLevels3[static_cast<size_t>(code)] : static_cast<uint8_t>(code);
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
  uint8_t code[kMostRowSize] = {};
  const RowFormat& f = row_format(type);
  const double scale = choose_codes(type, x, d, code) / static_cast<double>(f.unit);
  const ggml_fp16_t half = ggml_fp32_to_fp16(std::min(static_cast<float>(scale), 65504.0f));
  std::memcpy(to, &half, 2);
  auto* plane = reinterpret_cast<uint8_t*>(to + 2);
  const int64_t n = padded_row(d), per_byte = 8 / f.bits, mask = (1 << f.bits) - 1;
  for (int64_t i = 0; i < n; i += per_byte) {
    int byte = 0;
    for (int64_t j = 0; j < per_byte; ++j) byte |= static_cast<int>(code[i + j] & mask) << (j * f.bits);
    *plane++ = static_cast<uint8_t>(byte);
  }
  for (int64_t i = 0; f.extra && i < n; i += 8) {
    int byte = 0;
    for (int j = 0; j < 8; ++j) byte |= (code[i + j] >> f.bits) << j;
    *plane++ = static_cast<uint8_t>(byte);
  }
}

void take_apart(RowType type, const char* row, int64_t d, RowCodes& codes) {
  const RowFormat& f = row_format(type);
  std::memcpy(&codes.scale, row, 2);
  const auto* plane = reinterpret_cast<const uint8_t*>(row + 2);
  const uint8_t* extra = plane + plane_bytes(f, d);
  const int64_t n = padded_row(d), per_byte = 8 / f.bits;
  const int mask = (1 << f.bits) - 1;
  for (int64_t i = 0; i < n; ++i) {
    int code = plane[i / per_byte] >> (i % per_byte * f.bits) & mask;
    if (f.extra) code |= (extra[i / 8] >> (i % 8) & 1) << f.bits;
    codes.code[static_cast<size_t>(i)] = static_cast<uint8_t>(code);
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

void turn_row(float* x, int64_t d) {
  const int64_t block = d & -d;
  const float scale = 1 / std::sqrt(static_cast<float>(block));
  for (int64_t half = 1; half < block; half *= 2) {
    for (int64_t at = 0; at < d; at += 2 * half) {
      for (int64_t i = at; i < at + half; ++i) {
        const float a = x[i], b = x[i + half];
        x[i] = a + b;
        x[i + half] = a - b;
      }
    }
  }
  for (int64_t i = 0; i < d; ++i) x[i] *= scale;
}

}  // namespace curdkv
