// The inner loops of products in 8 bits, for one instruction set: included by int8_kernel.cpp in a namespace
// that defines
//   CURDKV_TARGET           the attribute that functions need
//   Ints, Floats            vectors of kRows x kTogether numbers; Weights, Inputs: what add_products() takes
//   Input                   what an input is packed to: uint8_t (128 more than its value) or int8_t
//   kRows, kTokens, kPanels a register tile: kPanels panels of kRows weight rows by kTokens tokens
//   kTogether, kDepth       how many tokens add_products() takes at once, and how many inputs of each
//   kGathered               of how many groups of weights that fit 5 bits gather() adds up the products, in
//                           narrower integers, before add_gathered(); 0: there is no such thing
//   place()                 where in a group of kRows x kDepth weights (int8) one lies
//   and the few operations on vectors that are used below.
//
// A panel: for each block of 32, its groups, then for each row, where inputs are unsigned, -128 times the sum
// of its weights (int32), its scale (F32) and, if the type has any, its minimum (F32). Weights that are
// gathered and have no minimum are 16 too large. A tile: for each block of 32, kTokens x 32 inputs, those of
// kTogether tokens in turn, kDepth of each; then for each token its scale, its sum (F32) and, where weights
// are gathered, -16 times the sum in steps of the scale (F32).

constexpr bool kUnsigned = std::is_unsigned_v<Input>;
constexpr size_t kGroup = kRows * kDepth, kGroups = kInt8Block / kDepth;
constexpr size_t kVector = kRows * 4;  // bytes
constexpr size_t kCorrections = kGroups * kGroup, kScales = kCorrections + (kUnsigned ? kVector : 0),
                 kMinima = kScales + kVector;
constexpr size_t kInputs = kInt8Block * sizeof(Input);  // of a token's block
constexpr size_t kOfTokens = kTokens * sizeof(float);
constexpr size_t kTileBlock = kTokens * kInputs + (kGathered > 0 ? 3 : 2) * kOfTokens;
constexpr int kTuples = kTokens / kTogether;
static_assert(kTokens % kTogether == 0);

constexpr size_t panel_block(bool minima) {
  return kMinima + (minima ? kVector : 0);
}

// The products of a block; kGather: by gather().
template <int kN, bool kGather>
CURDKV_TARGET __attribute__((always_inline)) inline void add_block(const char* panel, size_t panel_stride,
                                                                   const char* tile,
                                                                   Ints (&dot)[kN][kTuples]) {
  constexpr size_t kOnce = kGather ? kGathered : 1;
  CURDKV_UNROLL for (size_t first = 0; first < kGroups; first += kOnce) {
    [[maybe_unused]] Ints gathered[kN][kTuples];
    CURDKV_UNROLL for (size_t k = first; k < first + kOnce; ++k) {
      Weights weights[kN];
      CURDKV_UNROLL for (int p = 0; p < kN; ++p) weights[p] =
          load_weights(panel + static_cast<size_t>(p) * panel_stride + kGroup * k);
      CURDKV_UNROLL for (int t = 0; t < kTuples; ++t) {
        const Inputs inputs =
            load_inputs(tile + kTogether * (static_cast<size_t>(t) * kInputs + kDepth * sizeof(Input) * k));
        CURDKV_UNROLL for (int p = 0; p < kN; ++p) {
          if constexpr (!kGather) {
            dot[p][t] = add_products(dot[p][t], weights[p], inputs);
          } else {
            gathered[p][t] = gather(k == first ? no_ints() : gathered[p][t], weights[p], inputs);
          }
        }
      }
    }
    if constexpr (kGather) {
      CURDKV_UNROLL for (int p = 0; p < kN; ++p) {
        CURDKV_UNROLL for (int t = 0; t < kTuples; ++t) dot[p][t] = add_gathered(dot[p][t], gathered[p][t]);
      }
    }
  }
}

// out[t][p * kRows...] for n_tokens <= kTokens tokens.
template <int kN, bool kHasMinima, bool kGather>
CURDKV_TARGET __attribute__((always_inline)) inline void multiply_tile(const char* panel, size_t panel_stride,
                                                                       const char* tile, int64_t n_blocks,
                                                                       int64_t n_tokens, float* out,
                                                                       size_t out_stride) {
  Floats sum[kN][kTuples];
  CURDKV_UNROLL for (int p = 0; p < kN; ++p) {
    CURDKV_UNROLL for (int t = 0; t < kTuples; ++t) sum[p][t] = no_floats();
  }
  for (int64_t b = 0; b < n_blocks; ++b, panel += panel_block(kHasMinima), tile += kTileBlock) {
    Ints dot[kN][kTuples];
    CURDKV_UNROLL for (int p = 0; p < kN; ++p) {
      const char* w = panel + static_cast<size_t>(p) * panel_stride;
      CURDKV_UNROLL for (int t = 0; t < kTuples; ++t) dot[p][t] =
          kUnsigned ? load_ints(w + kCorrections) : no_ints();
    }
    add_block<kN, kGather>(panel, panel_stride, tile, dot);
    const char *scales = tile + kTokens * kInputs, *sums = scales + kOfTokens,
               *corrections = sums + kOfTokens;
    constexpr size_t kOfTuple = kTogether * sizeof(float);
    CURDKV_UNROLL for (int p = 0; p < kN; ++p) {
      const char* w = panel + static_cast<size_t>(p) * panel_stride;
      const Floats scale = load_floats(w + kScales);
      CURDKV_UNROLL for (int t = 0; t < kTuples; ++t) {
        const Floats both = scale * of_tokens(scales + static_cast<size_t>(t) * kOfTuple);
        Floats products = as_floats(dot[p][t]);
        if constexpr (kGather && !kHasMinima)
          products = products + of_tokens(corrections + static_cast<size_t>(t) * kOfTuple);
        sum[p][t] = multiply_add(products, both, sum[p][t]);
      }
      if constexpr (kHasMinima) {
        const Floats least = load_floats(w + kMinima);
        CURDKV_UNROLL for (int t = 0; t < kTuples; ++t) sum[p][t] =
            multiply_add(least, of_tokens(sums + static_cast<size_t>(t) * kOfTuple), sum[p][t]);
      }
    }
  }
  CURDKV_UNROLL for (int t = 0; t < kTokens; ++t) {
    if (t < n_tokens) {
      float* to = out + static_cast<size_t>(t) * out_stride;
      CURDKV_UNROLL for (int p = 0; p < kN; ++p)
          store_floats(to + p * kRows, sum[p][t / kTogether], t % kTogether);
    }
  }
}

template <int kN, bool kHasMinima, bool kGather>
CURDKV_TARGET void multiply_panels(const char* panels, size_t panel_stride, const char* tiles,
                                   int64_t n_blocks, int64_t n_tokens, float* out, size_t out_stride) {
  const size_t tile_stride = static_cast<size_t>(n_blocks) * kTileBlock;
  for (int64_t t = 0; t < n_tokens; t += kTokens, tiles += tile_stride) {
    multiply_tile<kN, kHasMinima, kGather>(panels, panel_stride, tiles, n_blocks, n_tokens - t,
                                           out + static_cast<size_t>(t) * out_stride, out_stride);
  }
}

template <int kN>
auto panels_of(bool minima, bool gathered) {
  if constexpr (kGathered > 0) {
    if (gathered) return minima ? multiply_panels<kN, true, true> : multiply_panels<kN, false, true>;
  }
  return minima ? multiply_panels<kN, true, false> : multiply_panels<kN, false, false>;
}

class Kernel : public ProductKernel {
 public:
  bool takes(const WeightMatrix& w) const override {
    return ggml_is_quantized(w.type) && w.n_in % kInt8Block == 0 && w.n_out % kRows == 0;
  }

  int64_t panel_rows() const override { return kRows; }

  size_t panel_bytes(const WeightMatrix& w) const override {
    return (static_cast<size_t>(w.n_in / kInt8Block) * panel_block(has_minima(w.type)) + 63) / 64 * 64;
  }

  size_t unpack_scratch_bytes(const WeightMatrix& w) const override {
    Scratch scratch;
    lay_out(scratch, w);
    return scratch.n_bytes();
  }

  void unpack(const WeightMatrix& w, int64_t panel, char* to, char* memory) const override {
    const bool minima = has_minima(w.type);
    const int too_large = is_gathered(w) && !minima ? 16 : 0;
    Scratch scratch(memory);
    const auto [first, floats] = lay_out(scratch, w);
    const std::span blocks(first, static_cast<size_t>(w.n_in / kInt8Block));
    for (int r = 0; r < kRows; ++r) {
      unpack_any_row(w, panel * kRows + r, blocks, floats);
      char* at = to;
      for (Int8Block& b : blocks) {
        int sum = 0;
        for (int8_t& q : b.q) {
          sum += q;
          q = static_cast<int8_t>(q + too_large);
        }
        for (size_t k = 0; k < kGroups; ++k) {
          char* group = at + k * kGroup;
          constexpr size_t n = place(0, 3) == 3 ? 4 : 2;  // that lie side by side
          for (size_t i = 0; i < kDepth; i += n)
            std::memcpy(group + place(static_cast<size_t>(r), i), &b.q[kDepth * k + i], n);
        }
        const int correction = -128 * sum;
        char* row = at + 4 * r;
        if (kUnsigned) std::memcpy(row + kCorrections, &correction, 4);
        std::memcpy(row + kScales, &b.scale, 4);
        if (minima) std::memcpy(row + kMinima, &b.min, 4);
        at += panel_block(minima);
      }
    }
  }

  int64_t tile_tokens() const override { return kTokens; }

  size_t tile_bytes(int64_t n_in) const override {
    return static_cast<size_t>(n_in / kInt8Block) * kTileBlock;
  }

  void pack(const float* x, size_t x_stride, int64_t n_in, int64_t n_tokens, char* to) const override {
    for (int64_t b = 0; b < n_in / kInt8Block; ++b, to += kTileBlock) {
      float scales[kTokens] = {}, sums[kTokens] = {}, corrections[kTokens] = {};
      if (n_tokens < kTokens) std::memset(to, 0, kTokens * kInputs);
      for (int64_t t = 0; t < n_tokens; ++t) {
        const auto in_tuple = static_cast<size_t>(t % kTogether);
        pack_block(x + static_cast<size_t>(t) * x_stride + b * kInt8Block,
                   to + (static_cast<size_t>(t) - in_tuple) * kInputs + in_tuple * kDepth * sizeof(Input),
                   scales[t], sums[t]);
        corrections[t] = -16 * sums[t];
        sums[t] *= scales[t];
      }
      std::memcpy(to + kTokens * kInputs, scales, sizeof scales);
      std::memcpy(to + kTokens * kInputs + kOfTokens, sums, sizeof sums);
      if (kGathered > 0) std::memcpy(to + kTokens * kInputs + 2 * kOfTokens, corrections, sizeof corrections);
    }
  }

  size_t multiply_scratch_bytes(const WeightMatrix&, int64_t) const override { return 0; }

  void multiply(const WeightMatrix& w, const char* panels, int64_t n_panels, const char* tiles,
                int64_t n_tokens, float* out, size_t out_stride, char*) const override {
    const bool minima = has_minima(w.type);
    const int64_t n_blocks = w.n_in / kInt8Block;
    const size_t stride = panel_bytes(w), tile = tile_bytes(w.n_in);
    const auto whole = panels_of<kPanels>(minima, is_gathered(w)), one = panels_of<1>(minima, is_gathered(w));
    // Tiles that stay in the second-level cache while all panels pass.
    const auto n_stay = static_cast<int64_t>(std::max<size_t>(1, kStayBytes / tile)) * kTokens;
    for (int64_t t = 0; t < n_tokens; t += n_stay) {
      const char* some = tiles + static_cast<size_t>(t / kTokens) * tile;
      float* to = out + static_cast<size_t>(t) * out_stride;
      for (int64_t p = 0; p < n_panels; p += kPanels) {
        (p + kPanels <= n_panels ? whole : one)(panels + static_cast<size_t>(p) * stride, stride, some,
                                                n_blocks, std::min(n_stay, n_tokens - t), to + p * kRows,
                                                out_stride);
      }
    }
  }

 private:
  static bool is_gathered(const WeightMatrix& w) { return kGathered > 0 && fits_5_bits(w.type); }

  struct Row {
    Int8Block* blocks;
    float* floats;
  };
  static Row lay_out(Scratch& scratch, const WeightMatrix& w) {
    auto* blocks = scratch.take<Int8Block>(w.n_in / kInt8Block);
    return {blocks, scratch.take<float>(w.n_in)};
  }
};
