// One budget of bytes over the KV heads of all layers, kept to while layers come one after another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace curdkv {

// A head's rows in so far as they compete for bytes.
struct RowsOfHead {
  int64_t n_rows = 0;
  int64_t row_bytes = 0;
  int64_t n_fixed = 0;       // rows that it keeps in any case
  std::vector<float> worth;  // of all rows, in any order
};

// Every head first keeps `floor` of its even share of the bytes, and no less than n_fixed rows. The rest goes
// to the rows that are worth most per byte, over all heads and layers, until a row no longer fits: a head
// gets as many rows as it has among them. Which rows these are is not asked here. Rows of layers to come can
// only take bytes from those at hand, so that what a head may keep shrinks from layer to layer, and ends as
// if all layers had been at hand at once.
class ByteBudget {
 public:
  // Of any head to come: the most that a row takes, and the least that all of its rows do.
  ByteBudget(double n_bytes, double floor, int64_t n_heads, int64_t most_row_bytes, int64_t least_head_bytes);

  void add(RowsOfHead head);
  // Rows that each head added so far may keep.
  std::vector<int64_t> counts();
  // Whether what they keep in any case is no more than the budget.
  bool holds_floors() const;

 private:
  struct Head {
    int64_t n_floor, row_bytes;
    std::vector<float> per_byte;  // of rows beyond the floor, descending
    int64_t n_left;               // of these, as many as were left by the last counts()
  };
  // Bytes of rows worth at least so much per byte, floors apart.
  double bytes_at(float per_byte) const;

  double n_bytes_, even_share_, floor_;
  int64_t n_heads_;
  double least_;  // bytes that a head to come takes
  std::vector<Head> heads_;
};

}  // namespace curdkv
