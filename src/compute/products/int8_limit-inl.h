// What the processor can do at most, by one instruction set: included by int8_kernel.cpp in a namespace that
// has Quickest: Wide, see int8_rows-inl.h, or what multiplies more at once.

// Dot products of 8 bits, all of the same numbers, n times in each of twelve independent chains, for what the
// processor can do at most. Returns how many multiplications and additions that were.
CURDKV_TARGET inline double dot_int8(int64_t n, int32_t* out) {
  alignas(64) int8_t ones[64];
  std::fill_n(ones, 64, static_cast<int8_t>(out[0] & 1));
  Quickest::Ints sum[12];
  CURDKV_UNROLL for (int c = 0; c < 12; ++c) sum[c] = Quickest::shifted<0>(out);
  const Quickest::Inputs x = Quickest::load(ones);
  for (int64_t i = 0; i < n; ++i) {
    CURDKV_UNROLL for (int c = 0; c < 12; ++c) {
      __asm__ volatile("" : "+m"(ones));  // or equal products are taken together
      sum[c] = Quickest::dot<false>(sum[c], Quickest::load(ones), x);
    }
  }
  CURDKV_UNROLL for (int c = 0; c < 12; ++c) std::memcpy(out + 16 * c, &sum[c], sizeof sum[c]);
  return 2.0 * 12 * static_cast<double>(n) * kInt8Block * Quickest::kRows;
}
