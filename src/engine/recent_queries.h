// The latest tokens' queries, all layers', which a sequence keeps for presses that look at them while it is
// generated. Empty unless a reading asked for it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace curdkv {

class RecentQueries {
 public:
  RecentQueries() = default;
  RecentQueries(int64_t capacity, int64_t n_layer)
      : capacity_(capacity), layers_(static_cast<size_t>(n_layer)) {}

  int64_t capacity() const { return capacity_; }  // tokens; 0: none are kept
  std::vector<int32_t> positions() const;         // of the latest, at most capacity(), ascending

  // Queries [first, first + n) of positions(), of query heads [head, head + n_heads): F32 [d][n][n_heads].
  std::vector<float> rows_of_heads(int64_t il, int64_t head, int64_t n_heads, int64_t first, int64_t n) const;

  // Room for n more, at most capacity(), of n_head heads of d dimensions, so that append() does not fail.
  void reserve(int64_t n, int64_t n_head, int64_t d);
  float* next(int64_t il);                                  // where layer il's go, F32 [d][n_head][n]
  void append(int64_t n, int64_t first_position) noexcept;  // n were written behind the last
  void drop_from(int64_t position) noexcept;                // forgets those at it and behind
  void clear() noexcept { drop_from(0); }

 private:
  // Up to twice the capacity is held, so that not every step moves rows.
  int64_t n_held() const { return std::ssize(positions_); }
  int64_t n_stale() const { return std::max<int64_t>(0, n_held() - capacity_); }

  int64_t capacity_ = 0;
  int64_t n_head_ = 0, d_ = 0;
  std::vector<int32_t> positions_;
  std::vector<std::vector<float>> layers_;  // F32 [d][n_head][at least n_held()]
};

}  // namespace curdkv
