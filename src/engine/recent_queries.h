// The latest tokens' queries, all layers', which a sequence keeps for presses that look at them while it is
// generated. Empty unless a reading asked for it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "model/hparams.h"

namespace curdkv {

class RecentQueries {
 public:
  RecentQueries() = default;
  RecentQueries(int64_t capacity, std::span<const LayerShape> layers);

  int64_t capacity() const { return capacity_; }  // tokens; 0: none are kept
  std::vector<int32_t> positions() const;         // of the latest, at most capacity(), ascending

  // Queries [first, first + n) of positions(), of query heads [head, head + n_heads): F32 [d][n][n_heads].
  std::vector<float> rows_of_heads(int64_t il, int64_t head, int64_t n_heads, int64_t first, int64_t n) const;

  void reserve(int64_t n);                                  // room for n more, at most capacity()
  float* next(int64_t il);                                  // where layer il's go, F32 [d][n_head][n]
  void append(int64_t n, int64_t first_position) noexcept;  // n were written behind the last
  void drop_from(int64_t position) noexcept;                // forgets those at it and behind
  void clear() noexcept { drop_from(0); }

 private:
  struct Layer {
    int64_t n_head, d;
    std::vector<float> rows = {};  // F32 [d][n_head][at least n_held()]
    int64_t width() const { return n_head * d; }
  };
  // Up to twice the capacity is held, so that not every step moves rows.
  int64_t n_held() const { return std::ssize(positions_); }
  int64_t n_stale() const { return std::max<int64_t>(0, n_held() - capacity_); }

  int64_t capacity_ = 0;
  std::vector<int32_t> positions_;
  std::vector<Layer> layers_;
};

}  // namespace curdkv
