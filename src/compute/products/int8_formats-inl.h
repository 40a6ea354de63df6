// GGUF's quantised types, for one instruction set: included by int8_kernel.cpp in a namespace that defines
//   Bytes                                       32 bytes
//   load_bytes(), store_bytes()
//   nibbles()                                   of 16 bytes: the low ones, then the high ones
//   shifted_nibbles(), shifted_bits<mask>()     of 32 bytes, shifted right by so many bits
//   with_bits()                                 16 added where a bit of 32 is set
//   looked_up()                                 in 16 bytes, by nibbles
//   plus(), minus()
//   half_at()                                   an F16 as F32
//   scaled_bytes()                              8 unsigned or signed bytes times a factor, as F32
//
// A type: how many blocks of 32 weights share a unit of so many bytes; its scales, one a block or one for
// each half of it; and a block's weights as bytes that are kOffset too large. kSigned: they are of either
// sign, otherwise below 64.

struct Scale {
  float scale[1], minimum[1];
};

struct Q8_0 {
  static constexpr int kBlocks = 1, kOffset = 0;
  static constexpr size_t kBytes = 34;
  static constexpr bool kSigned = true, kHasMinima = false, kHalves = false;
  using Scales = Scale;
  static CURDKV_INLINE void read(const char* unit, Scales& s) { s.scale[0] = half_at(unit); }
  static CURDKV_INLINE Bytes bytes(const char* unit, int) { return load_bytes(unit + 2); }
};

struct Q4_0 {
  static constexpr int kBlocks = 1, kOffset = 8;
  static constexpr size_t kBytes = 18;
  static constexpr bool kSigned = false, kHasMinima = false, kHalves = false;
  using Scales = Scale;
  static CURDKV_INLINE void read(const char* unit, Scales& s) { s.scale[0] = half_at(unit); }
  static CURDKV_INLINE Bytes bytes(const char* unit, int) { return nibbles(unit + 2); }
};

struct Q4_1 {
  static constexpr int kBlocks = 1, kOffset = 0;
  static constexpr size_t kBytes = 20;
  static constexpr bool kSigned = false, kHasMinima = true, kHalves = false;
  using Scales = Scale;
  static CURDKV_INLINE void read(const char* unit, Scales& s) {
    s.scale[0] = half_at(unit);
    s.minimum[0] = half_at(unit + 2);
  }
  static CURDKV_INLINE Bytes bytes(const char* unit, int) { return nibbles(unit + 4); }
};

struct Q5_0 {
  static constexpr int kBlocks = 1, kOffset = 16;
  static constexpr size_t kBytes = 22;
  static constexpr bool kSigned = false, kHasMinima = false, kHalves = false;
  using Scales = Scale;
  static CURDKV_INLINE void read(const char* unit, Scales& s) { s.scale[0] = half_at(unit); }
  static CURDKV_INLINE Bytes bytes(const char* unit, int) { return with_bits(nibbles(unit + 6), unit + 2); }
};

struct Q5_1 {
  static constexpr int kBlocks = 1, kOffset = 0;
  static constexpr size_t kBytes = 24;
  static constexpr bool kSigned = false, kHasMinima = true, kHalves = false;
  using Scales = Scale;
  static CURDKV_INLINE void read(const char* unit, Scales& s) { Q4_1::read(unit, s); }
  static CURDKV_INLINE Bytes bytes(const char* unit, int) { return with_bits(nibbles(unit + 8), unit + 4); }
};

struct IQ4_NL {
  static constexpr int kBlocks = 1, kOffset = 0;
  static constexpr size_t kBytes = 18;
  static constexpr bool kSigned = true, kHasMinima = false, kHalves = false;
  using Scales = Scale;
  static CURDKV_INLINE void read(const char* unit, Scales& s) { s.scale[0] = half_at(unit); }
  static CURDKV_INLINE Bytes bytes(const char* unit, int) { return looked_up(kIq4Values, nibbles(unit + 2)); }
};

struct MXFP4 {
  static constexpr int kBlocks = 1, kOffset = 0;
  static constexpr size_t kBytes = 17;
  static constexpr bool kSigned = true, kHasMinima = false, kHalves = false;
  using Scales = Scale;
  // 2^(e - 128): values are doubled, to be whole.
  static CURDKV_INLINE void read(const char* unit, Scales& s) {
    const auto e = static_cast<uint32_t>(static_cast<uint8_t>(*unit));
    const uint32_t bits = e < 2 ? 0x00200000u << e : (e - 1) << 23;
    std::memcpy(s.scale, &bits, sizeof bits);
  }
  static CURDKV_INLINE Bytes bytes(const char* unit, int) {
    return looked_up(kMxfp4Values, nibbles(unit + 1));
  }
};

struct KScales {
  alignas(32) float scale[8], minimum[8];
};

struct Q4_K {
  static constexpr int kBlocks = 8, kOffset = 0;
  static constexpr size_t kBytes = 144;
  static constexpr bool kSigned = false, kHasMinima = true, kHalves = false;
  using Scales = KScales;
  // 6 bits each for scales and minima, in 12 bytes: 4 low ones of each, then the nibbles of the others, whose
  // upper two bits are above those of the first.
  static CURDKV_INLINE void read(const char* unit, Scales& s) {
    const auto a = read_at<uint32_t>(unit + 4), b = read_at<uint32_t>(unit + 8),
               c = read_at<uint32_t>(unit + 12);
    const uint32_t scales = (c & 0x0f0f0f0f) | (a >> 6 & 0x03030303) << 4,
                   minima = (c >> 4 & 0x0f0f0f0f) | (b >> 6 & 0x03030303) << 4;
    scaled_bytes<uint8_t>((a & 0x3f3f3f3f) | static_cast<uint64_t>(scales) << 32, half_at(unit), s.scale);
    scaled_bytes<uint8_t>((b & 0x3f3f3f3f) | static_cast<uint64_t>(minima) << 32, -half_at(unit + 2),
                          s.minimum);
  }
  // Two blocks share 32 bytes: the first has the low nibbles, the second the high ones.
  static CURDKV_INLINE Bytes bytes(const char* unit, int j) {
    return shifted_nibbles(load_bytes(unit + 16 + j / 2 * 32), j % 2 * 4);
  }
};

struct Q5_K {
  static constexpr int kBlocks = 8, kOffset = 0;
  static constexpr size_t kBytes = 176;
  static constexpr bool kSigned = false, kHasMinima = true, kHalves = false;
  using Scales = KScales;
  static CURDKV_INLINE void read(const char* unit, Scales& s) { Q4_K::read(unit, s); }
  // Bit j of byte i, of the 32 from byte 16 on, belongs to weight i of block j.
  static CURDKV_INLINE Bytes bytes(const char* unit, int j) {
    return plus(shifted_nibbles(load_bytes(unit + 48 + j / 2 * 32), j % 2 * 4),
                shifted_bits<1>(load_bytes(unit + 16), j));
  }
};

struct Q6_K {
  static constexpr int kBlocks = 8, kOffset = 32;
  static constexpr size_t kBytes = 210;
  static constexpr bool kSigned = false, kHasMinima = false, kHalves = true;
  struct Scales {
    alignas(32) float scale[16];
  };
  static CURDKV_INLINE void read(const char* unit, Scales& s) {
    const float d = half_at(unit + 208);
    scaled_bytes<int8_t>(read_at<uint64_t>(unit + 192), d, s.scale);
    scaled_bytes<int8_t>(read_at<uint64_t>(unit + 200), d, s.scale + 8);
  }
  // Four blocks share 64 bytes of nibbles, block i those 32 i % 2 behind the first, and 32 bytes of two upper
  // bits each.
  static CURDKV_INLINE Bytes bytes(const char* unit, int j) {
    const int i = j % 4;
    return plus(shifted_nibbles(load_bytes(unit + j / 4 * 64 + i % 2 * 32), i / 2 * 4),
                shifted_bits<3>(load_bytes(unit + 128 + j / 4 * 32), 2 * i));
  }
};

struct IQ4_XS {
  static constexpr int kBlocks = 8, kOffset = 0;
  static constexpr size_t kBytes = 136;
  static constexpr bool kSigned = true, kHasMinima = false, kHalves = false;
  using Scales = KScales;
  // 6 bits each, 32 too large: nibbles in bytes 4 to 7, their upper two bits in bytes 2 and 3.
  static CURDKV_INLINE void read(const char* unit, Scales& s) {
    const auto upper = static_cast<uint32_t>(read_at<uint16_t>(unit + 2)),
               lower = read_at<uint32_t>(unit + 4);
    uint64_t all = 0;
    for (int j = 0; j < 8; ++j) {
      const uint32_t scale = (lower >> 4 * j & 15) | (upper >> 2 * j & 3) << 4;
      all |= static_cast<uint64_t>(static_cast<uint8_t>(scale - 32)) << 8 * j;
    }
    scaled_bytes<int8_t>(all, half_at(unit), s.scale);
  }
  static CURDKV_INLINE Bytes bytes(const char* unit, int j) {
    return looked_up(kIq4Values, nibbles(unit + 8 + 16 * j));
  }
};

// Calls `with` with the type of that number; false: there is none here.
template <typename With>
bool with_format(ggml_type type, With&& with) {
  switch (type) {
    case GGML_TYPE_Q8_0:
      return with(Q8_0{}), true;
    case GGML_TYPE_Q4_0:
      return with(Q4_0{}), true;
    case GGML_TYPE_Q4_1:
      return with(Q4_1{}), true;
    case GGML_TYPE_Q5_0:
      return with(Q5_0{}), true;
    case GGML_TYPE_Q5_1:
      return with(Q5_1{}), true;
    case GGML_TYPE_IQ4_NL:
      return with(IQ4_NL{}), true;
    case GGML_TYPE_MXFP4:
      return with(MXFP4{}), true;
    case GGML_TYPE_Q4_K:
      return with(Q4_K{}), true;
    case GGML_TYPE_Q5_K:
      return with(Q5_K{}), true;
    case GGML_TYPE_Q6_K:
      return with(Q6_K{}), true;
    case GGML_TYPE_IQ4_XS:
      return with(IQ4_XS{}), true;
    default:
      return false;
  }
}

template <typename F>
CURDKV_TARGET void unpack_blocks(const char* row, std::span<Int8Block> to) {
  for (size_t b = 0; b < to.size(); b += F::kBlocks, row += F::kBytes) {
    typename F::Scales scales;
    F::read(row, scales);
    for (int j = 0; j < F::kBlocks; ++j) {
      Int8Block& block = to[b + static_cast<size_t>(j)];
      store_bytes(block.q.data(), minus(F::bytes(row, j), F::kOffset));
      block.scale = scales.scale[j];
      block.min = 0;
      if constexpr (F::kHasMinima) block.min = scales.minimum[j];
    }
  }
}

inline void unpack_any_row(const WeightMatrix& w, int64_t row, std::span<Int8Block> to, float* floats) {
  const auto unpack = [&]<typename F>(F) {
    if constexpr (!F::kHalves) unpack_blocks<F>(w.row(row), to);
  };
  if (!unpacks_exactly(w.type) || !with_format(w.type, unpack)) quantise_row_anew(w, row, to, floats);
}
