#include "engine/recent_queries.h"

namespace curdkv {

std::vector<int32_t> RecentQueries::positions() const {
  return {positions_.begin() + n_stale(), positions_.end()};
}

std::vector<float> RecentQueries::rows_of_heads(int64_t il, int64_t head, int64_t n_heads, int64_t first,
                                                int64_t n) const {
  const std::vector<float>& rows = layers_[static_cast<size_t>(il)];
  std::vector<float> out;
  out.reserve(static_cast<size_t>(n_heads * n * d_));
  for (int64_t h = head; h < head + n_heads; ++h) {
    for (int64_t t = n_stale() + first; t < n_stale() + first + n; ++t) {
      const auto from = rows.begin() + (t * n_head_ + h) * d_;
      out.insert(out.end(), from, from + d_);
    }
  }
  return out;
}

void RecentQueries::reserve(int64_t n, int64_t n_head, int64_t d) {
  n_head_ = n_head;
  d_ = d;
  if (n_held() + n > 2 * capacity_) {
    const int64_t n_old = std::clamp<int64_t>(n_held() + n - capacity_, 0, n_held());
    for (std::vector<float>& rows : layers_) {
      if (!rows.empty()) rows.erase(rows.begin(), rows.begin() + n_old * n_head_ * d_);
    }
    positions_.erase(positions_.begin(), positions_.begin() + n_old);
  }
  positions_.reserve(static_cast<size_t>(2 * capacity_));
  for (std::vector<float>& rows : layers_) rows.resize(static_cast<size_t>((n_held() + n) * n_head_ * d_));
}

float* RecentQueries::next(int64_t il) {
  return layers_[static_cast<size_t>(il)].data() + n_held() * n_head_ * d_;
}

void RecentQueries::append(int64_t n, int64_t first_position) noexcept {
  for (int64_t i = 0; i < n; ++i) positions_.push_back(static_cast<int32_t>(first_position + i));
}

void RecentQueries::drop_from(int64_t position) noexcept {
  while (!positions_.empty() && positions_.back() >= position) positions_.pop_back();
}

}  // namespace curdkv
