// Products of a token's inputs with rows of weights as they lie in the file, for one instruction set:
// included by int8_kernel.cpp after int8_formats-inl.h, in a namespace that defines, beside what that needs,
//   kFlips         whether signed weights must be made unsigned, by adding 128
//   Narrow         lanes for one row: Ints, Floats; kRows; and the operations that are used below
//   Wide           the same for as many rows as a larger register holds, or Narrow
//   kMostColumns, kWideRegisters
//
// A block's dot products of 4 are gathered in integers and added up in F32 with the block's scale, in 8
// lanes; several rows hide each other's latencies, several columns share the unpacking. A row's sums have the
// same bits in any such company, and with all instruction sets that fuse multiply and add.

template <typename F>
constexpr int excess_bits() {  // by which power of two bytes are too large; 0: none
  if (F::kSigned) return kFlips ? 7 : 0;
  return F::kOffset == 0 ? 0 : std::countr_zero(static_cast<unsigned>(F::kOffset));
}

template <typename F>
CURDKV_INLINE Bytes operand(const char* unit, int j) {
  const Bytes bytes = F::bytes(unit, j);
  if constexpr (F::kSigned && kFlips) return flipped(bytes);
  return bytes;
}

template <typename F, typename V, int kRegisters, int kColumns>
CURDKV_TARGET void multiply_rows_by(const char* rows, int64_t n_rows, int64_t n_in, const RowInput* in,
                                    float* out, int64_t out_stride) {
  constexpr int kAtOnce = kRegisters * V::kRows, kExcess = excess_bits<F>();
  constexpr int kStep = std::min(F::kBlocks, 2);                  // of which types share bytes
  constexpr bool kScalesFirst = F::kBlocks > 1 && kColumns == 1;  // scales times the inputs' a unit at a time
  constexpr size_t kAhead = 8192;                                 // bytes that memory is asked for early
  const int64_t n_blocks = n_in / kInt8Block, n_units = n_blocks / F::kBlocks;
  const size_t stride = static_cast<size_t>(n_units) * F::kBytes;
  for (int64_t r = 0; r < n_rows; r += kAtOnce) {
    const char* row[kAtOnce];  // beyond the last the last again
    for (int64_t i = 0; i < kAtOnce; ++i)
      row[i] = rows + static_cast<size_t>(std::min(r + i, n_rows - 1)) * stride;
    typename V::Floats sum[kColumns][kRegisters];
    CURDKV_UNROLL for (int c = 0; c < kColumns; ++c) {
      CURDKV_UNROLL for (int i = 0; i < kRegisters; ++i) sum[c][i] = V::no_floats();
    }
    const RowInput* x = in;
    for (int64_t u = 0; u < n_units; ++u) {
      // The rows lie one behind the other.
      const char* soon = row[0] + kAhead + static_cast<size_t>(u) * F::kBytes * kAtOnce;
      for (size_t i = 0; i < kAtOnce * F::kBytes; i += 64) __builtin_prefetch(soon + i, 0, 2);
      typename F::Scales scales[kAtOnce];
      CURDKV_UNROLL for (int i = 0; i < kAtOnce; ++i)
          F::read(row[i] + static_cast<size_t>(u) * F::kBytes, scales[i]);
      if constexpr (kScalesFirst) {
        constexpr int kEach = F::kHalves ? 2 : 1;
        alignas(32) float of_inputs[F::kBlocks * kEach];
        CURDKV_UNROLL for (int j = 0; j < F::kBlocks * kEach; ++j) of_inputs[j] = x[j / kEach].scale;
        CURDKV_UNROLL for (int i = 0; i < kAtOnce; ++i) {
          CURDKV_UNROLL for (int j = 0; j < F::kBlocks * kEach; j += 8)
              Narrow::multiply_8(scales[i].scale + j, of_inputs + j);
        }
      }
      for (int pair = 0; pair < F::kBlocks; pair += kStep) {
        CURDKV_UNROLL for (int h = 0; h < kStep; ++h, ++x) {
          const int j = pair + h;
          typename V::Weights weights[kRegisters];
          typename V::Floats scale[kRegisters];
          CURDKV_UNROLL for (int i = 0; i < kRegisters; ++i) {
            Bytes bytes[V::kRows];
            typename Narrow::Floats scale_of[V::kRows];
            CURDKV_UNROLL for (int k = 0; k < V::kRows; ++k) {
              const int at = i * V::kRows + k;
              bytes[k] = operand<F>(row[at] + static_cast<size_t>(u) * F::kBytes, j);
              scale_of[k] =
                  F::kHalves ? Narrow::halves(scales[at].scale + 2 * j) : Narrow::all(scales[at].scale[j]);
            }
            weights[i] = V::join(bytes);
            scale[i] = V::join(scale_of);
          }
          CURDKV_UNROLL for (int c = 0; c < kColumns; ++c) {
            const RowInput& input = x[c * n_blocks];
            const typename V::Inputs q = V::load(input.q);
            const typename V::Ints start = V::template shifted<kExcess>(input.minus_sums);
            const typename V::Floats input_scale = V::all(input.scale);
            CURDKV_UNROLL for (int i = 0; i < kRegisters; ++i) {
              const typename V::Ints dot = V::template dot<F::kSigned>(start, weights[i], q);
              const typename V::Floats both = kScalesFirst ? scale[i] : V::multiply(scale[i], input_scale);
              sum[c][i] = V::multiply_add(V::as_floats(dot), both, sum[c][i]);
            }
          }
        }
      }
      if constexpr (F::kHasMinima) {  // a block's in a lane
        typename V::Floats minimum[kRegisters];
        CURDKV_UNROLL for (int i = 0; i < kRegisters; ++i) {
          typename Narrow::Floats minimum_of[V::kRows];
          CURDKV_UNROLL for (int k = 0; k < V::kRows; ++k) minimum_of[k] =
              Narrow::load_floats<F::kBlocks>(scales[i * V::kRows + k].minimum);
          minimum[i] = V::join(minimum_of);
        }
        CURDKV_UNROLL for (int c = 0; c < kColumns; ++c) {
          alignas(32) float sums[F::kBlocks];
          CURDKV_UNROLL for (int j = 0; j < F::kBlocks; ++j) sums[j] = x[c * n_blocks + j - F::kBlocks].sum;
          const typename V::Floats all_sums = V::in_all(Narrow::load_floats<F::kBlocks>(sums));
          CURDKV_UNROLL for (int i = 0; i < kRegisters; ++i) sum[c][i] =
              V::multiply_add(minimum[i], all_sums, sum[c][i]);
        }
      }
    }
    for (int c = 0; c < kColumns; ++c) {
      for (int64_t i = 0; i < std::min<int64_t>(kAtOnce, n_rows - r); ++i)
        out[c * out_stride + r + i] = V::sum_of(sum[c][i / V::kRows], static_cast<int>(i % V::kRows));
    }
  }
}

template <typename F, int kColumns>
void multiply_rows_of(int64_t n_columns, const char* rows, int64_t n_rows, int64_t n_in, const RowInput* in,
                      float* out, int64_t out_stride) {
  if constexpr (kColumns > 1) {
    if (n_columns < kColumns)
      return multiply_rows_of<F, kColumns - 1>(n_columns, rows, n_rows, n_in, in, out, out_stride);
    multiply_rows_by<F, Wide, kWideRegisters, kColumns>(rows, n_rows, n_in, in, out, out_stride);
  } else {
    multiply_rows_by<F, Narrow, 4, 1>(rows, n_rows, n_in, in, out, out_stride);
  }
}

inline void multiply_rows(ggml_type type, const char* rows, int64_t n_rows, int64_t n_in, const RowInput* in,
                          int64_t n_columns, float* out, int64_t out_stride) {
  with_format(type, [&]<typename F>(F) {
    for (int64_t c = 0; c < n_columns; c += kMostColumns) {
      multiply_rows_of<F, kMostColumns>(std::min<int64_t>(kMostColumns, n_columns - c), rows, n_rows, n_in,
                                        in + c * (n_in / kInt8Block), out + c * out_stride, out_stride);
    }
  });
}
