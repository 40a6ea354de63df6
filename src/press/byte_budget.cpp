#include "press/byte_budget.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "press/select.h"

namespace curdkv {
namespace {

int64_t n_at_least(const std::vector<float>& descending, int64_t n, float least) {
  const auto end = descending.begin() + n;
  return std::partition_point(descending.begin(), end, [&](float x) { return x >= least; }) -
         descending.begin();
}

}  // namespace

ByteBudget::ByteBudget(double n_bytes, double floor, int64_t n_heads, int64_t most_row_bytes,
                       int64_t least_head_bytes)
    : n_bytes_(n_bytes),
      even_share_(n_bytes / static_cast<double>(n_heads)),
      floor_(floor),
      n_heads_(n_heads),
      least_(std::clamp(floor * even_share_ - static_cast<double>(most_row_bytes), 0.0,
                        static_cast<double>(least_head_bytes))) {}

void ByteBudget::add(RowsOfHead head) {
  const auto share = static_cast<int64_t>(floor_ * even_share_ / static_cast<double>(head.row_bytes));
  Head h = {std::min(head.n_rows, std::max(share, head.n_fixed)), head.row_bytes, std::move(head.worth), 0};
  for (float& w : h.per_byte) w = w > 0 ? w / static_cast<float>(h.row_bytes) : 0.0f;  // no number: nothing
  sort_descending(h.per_byte);
  h.per_byte.erase(h.per_byte.begin(), h.per_byte.begin() + h.n_floor);
  h.n_left = std::ssize(h.per_byte);
  heads_.push_back(std::move(h));
}

bool ByteBudget::holds_floors() const {
  double n = 0;
  for (const Head& h : heads_) n += static_cast<double>(h.n_floor * h.row_bytes);
  return n <= n_bytes_;
}

double ByteBudget::bytes_at(float per_byte) const {
  double n = 0;
  for (const Head& h : heads_)
    n += static_cast<double>(n_at_least(h.per_byte, h.n_left, per_byte) * h.row_bytes);
  return n;
}

std::vector<int64_t> ByteBudget::counts() {
  double room = n_bytes_ - least_ * static_cast<double>(n_heads_ - std::ssize(heads_));
  for (const Head& h : heads_) room -= static_cast<double>(h.n_floor * h.row_bytes);
  // The lowest worth at which all rows fit: floats that are not negative are ordered as their bits are.
  uint32_t low = 0, high = std::bit_cast<uint32_t>(INFINITY);
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    if (bytes_at(std::bit_cast<float>(middle)) <= room) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  const auto lowest = std::bit_cast<float>(high);
  // Of rows that are worth a little less, all alike, those of the first heads still fit.
  const float next = high > 0 ? std::bit_cast<float>(high - 1) : 0.0f;
  room -= bytes_at(lowest);
  bool full = high == 0;
  std::vector<int64_t> all;
  for (Head& h : heads_) {
    int64_t n = n_at_least(h.per_byte, h.n_left, lowest);
    while (!full && n < h.n_left && h.per_byte[static_cast<size_t>(n)] == next) {
      full = static_cast<double>(h.row_bytes) > room;
      if (full) break;
      room -= static_cast<double>(h.row_bytes);
      ++n;
    }
    h.n_left = n;
    h.per_byte.resize(static_cast<size_t>(n));
    all.push_back(h.n_floor + n);
  }
  return all;
}

}  // namespace curdkv
