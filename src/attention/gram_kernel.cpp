#include "attention/gram_kernel.h"

#include <algorithm>

#include "base/scratch.h"

// Arrays of vectors below need vectors of a fixed size.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/gram_kernel.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "attention/prefill_strips-inl.h"

HWY_BEFORE_NAMESPACE();
namespace curdkv {
namespace HWY_NAMESPACE {
namespace {

constexpr int64_t kBlock = 128;  // rows that are multiplied before their products go to memory

struct GramScratch {
  int64_t width;  // d, up to whole strips and blocks of rows
  float* few;     // [kRows][d]
  float* rows;    // [kBlock][width]
  float* sums;    // [width][width]

  GramScratch(Scratch& all, int64_t d) : width(whole_units(d)) {
    few = all.take<float>(kRows * d);
    rows = all.take<float>(width * kBlock);
    sums = all.take<float>(width * width);
  }
};

struct NormsScratch {
  float* rows;    // [kRows][d]
  float* w;       // [rank, up to whole strips, / kStrip][d][kStrip]
  int64_t* used;  // of its d elements in each strip

  NormsScratch(Scratch& all, int64_t d, int64_t rank) {
    rows = all.take<float>(kRows * d);
    w = all.take<float>(whole_units(rank) * d);
    used = all.take<int64_t>(whole_units(rank) / kStrip);
  }
};

// How many of the first n elements of a strip of w are not all zeros: of a triangle less than all.
HWY_INLINE int64_t used_elements(const float* strip, int64_t n) {
  const Floats df;
  for (; n > 0; --n) {
    for (int64_t v = 0; v < kVectors; ++v) {
      const auto x = hn::Load(df, strip + (n - 1) * kStrip + v * kLanes);
      if (!hn::AllTrue(df, hn::Eq(x, hn::Zero(df)))) return n;
    }
  }
  return 0;
}

// Columns of row i before this one are mirror images of what other rows have.
HWY_INLINE int64_t first_column(int64_t i) {
  return i / kRows * kRows / kStrip * kStrip;
}

}  // namespace

void GramOf(const RowsOf& t, float* gram, char* scratch) {
  const Floats df;
  Scratch all(scratch);
  const GramScratch c(all, t.d);
  const auto width = static_cast<size_t>(c.width);
  std::fill_n(c.sums, width * width, 0.0f);
  std::fill_n(c.rows, c.width * kBlock, 0.0f);
  for (int64_t at = 0; at < t.n; at += kBlock) {
    const int64_t n = std::min(kBlock, t.n - at);
    for (int64_t r = 0; r < n; r += kRows) {
      const int64_t m = std::min(kRows, n - r);
      widen(t.first + static_cast<size_t>(at + r) * t.stride, t.stride, t.type, m, t.d, c.few);
      for (int64_t i = 0; i < m; ++i) std::copy_n(c.few + i * t.d, t.d, c.rows + (r + i) * c.width);
    }
    for (int64_t i = 0; i < c.width; i += kRows) {
      for (int64_t j = first_column(i); j < c.width; j += kStrip) {
        multiply_rows(
            c.rows + i, 1, width, c.rows + j, n,
            [&](int64_t row, int64_t v, Vec x) {
              float* to = c.sums + (i + row) * c.width + j + v * kLanes;
              hn::Store(hn::Add(hn::Load(df, to), x), df, to);
            },
            width);
      }
    }
  }
  for (int64_t i = 0; i < t.d; ++i) {
    for (int64_t j = 0; j < t.d; ++j) {
      gram[i * t.d + j] = c.sums[j < first_column(i) ? j * c.width + i : i * c.width + j];
    }
  }
}

void SquaredNormsOf(const RowsOf& t, const float* w, int64_t rank, float* norms, char* scratch) {
  const Floats df;
  Scratch all(scratch);
  const NormsScratch c(all, t.d, rank);
  std::fill_n(c.w, whole_units(rank) * t.d, 0.0f);
  turn(w, rank, t.d, 0, c.w);
  for (int64_t r = 0; r < rank; r += kStrip) c.used[r / kStrip] = used_elements(c.w + r * t.d, t.d);
  for (int64_t at = 0; at < t.n; at += kRows) {
    const int64_t n = std::min(kRows, t.n - at);
    widen(t.first + static_cast<size_t>(at) * t.stride, t.stride, t.type, n, t.d, c.rows);
    Vec sum[kRows];
    for (auto& s : sum) s = hn::Zero(df);
    for (int64_t r = 0; r < rank; r += kStrip) {
      multiply_rows(c.rows, static_cast<size_t>(t.d), 1, c.w + r * t.d, c.used[r / kStrip],
                    [&](int64_t row, int64_t, Vec x) { sum[row] = hn::MulAdd(x, x, sum[row]); });
    }
    for (int64_t i = 0; i < n; ++i) {
      const float* row = c.rows + i * t.d;
      float rest = 0;
      if (w == nullptr) {
        int64_t k = 0;
        for (; k + kLanes <= t.d; k += kLanes) {
          const auto x = hn::LoadU(df, row + k);
          sum[i] = hn::MulAdd(x, x, sum[i]);
        }
        for (; k < t.d; ++k) rest += row[k] * row[k];
      }
      norms[at + i] = hn::GetLane(hn::SumOfLanes(df, sum[i])) + rest;
    }
  }
}

size_t GramScratchBytes(int64_t d) {
  return Scratch::measure([&](Scratch& all) { (void)GramScratch(all, d); });
}

size_t NormsScratchBytes(int64_t d, int64_t rank) {
  return Scratch::measure([&](Scratch& all) { (void)NormsScratch(all, d, rank); });
}

}  // namespace HWY_NAMESPACE
}  // namespace curdkv
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace curdkv {

HWY_EXPORT(GramOf);
HWY_EXPORT(SquaredNormsOf);
HWY_EXPORT(GramScratchBytes);
HWY_EXPORT(NormsScratchBytes);

size_t gram_scratch_bytes(int64_t d) {
  return HWY_DYNAMIC_DISPATCH(GramScratchBytes)(d);
}

size_t norms_scratch_bytes(int64_t d, int64_t rank) {
  return HWY_DYNAMIC_DISPATCH(NormsScratchBytes)(d, rank);
}

void gram_of(const RowsOf& rows, float* gram, char* scratch) {
  HWY_DYNAMIC_DISPATCH(GramOf)(rows, gram, scratch);
}

void squared_norms_of(const RowsOf& rows, const float* w, int64_t rank, float* norms, char* scratch) {
  HWY_DYNAMIC_DISPATCH(SquaredNormsOf)(rows, w, rank, norms, scratch);
}

}  // namespace curdkv
#endif  // HWY_ONCE
