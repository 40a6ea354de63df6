#include "engine/recent_queries.h"

namespace curdkv {

RecentQueries::RecentQueries(int64_t capacity, std::span<const LayerShape> layers) : capacity_(capacity) {
  for (const LayerShape& l : layers) layers_.push_back({l.n_head, l.d_head_k});
}

std::vector<int32_t> RecentQueries::positions() const {
  return {positions_.begin() + n_stale(), positions_.end()};
}

std::vector<float> RecentQueries::rows_of_heads(int64_t il, int64_t head, int64_t n_heads, int64_t first,
                                                int64_t n) const {
  const Layer& l = layers_[static_cast<size_t>(il)];
  std::vector<float> out;
  out.reserve(static_cast<size_t>(n_heads * n * l.d));
  for (int64_t h = head; h < head + n_heads; ++h) {
    for (int64_t t = n_stale() + first; t < n_stale() + first + n; ++t) {
      const auto from = l.rows.begin() + (t * l.n_head + h) * l.d;
      out.insert(out.end(), from, from + l.d);
    }
  }
  return out;
}

void RecentQueries::reserve(int64_t n) {
  if (n_held() + n > 2 * capacity_) {
    const int64_t n_old = std::clamp<int64_t>(n_held() + n - capacity_, 0, n_held());
    for (Layer& l : layers_) l.rows.erase(l.rows.begin(), l.rows.begin() + n_old * l.width());
    positions_.erase(positions_.begin(), positions_.begin() + n_old);
  }
  positions_.reserve(static_cast<size_t>(2 * capacity_));
  for (Layer& l : layers_) l.rows.resize(static_cast<size_t>((n_held() + n) * l.width()));
}

float* RecentQueries::next(int64_t il) {
  Layer& l = layers_[static_cast<size_t>(il)];
  return l.rows.data() + n_held() * l.width();
}

void RecentQueries::append(int64_t n, int64_t first_position) noexcept {
  for (int64_t i = 0; i < n; ++i) positions_.push_back(static_cast<int32_t>(first_position + i));
}

void RecentQueries::drop_from(int64_t position) noexcept {
  while (!positions_.empty() && positions_.back() >= position) positions_.pop_back();
}

}  // namespace curdkv
