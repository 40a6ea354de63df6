// Scores of one layer, in host memory: a number for every (head, token), larger = keep.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace curdkv {

// F32 [n_tokens, n_head], the tokens of a head next to each other.
class Scores {
 public:
  Scores() = default;
  Scores(int64_t n_tokens, int64_t n_head, float value = 0)
      : n_tokens_(n_tokens), n_head_(n_head), data_(static_cast<size_t>(n_tokens * n_head), value) {}

  int64_t n_tokens() const { return n_tokens_; }
  int64_t n_head() const { return n_head_; }
  std::span<float> row(int64_t head) {
    return std::span(data_).subspan(static_cast<size_t>(head * n_tokens_), static_cast<size_t>(n_tokens_));
  }
  std::span<const float> row(int64_t head) const {
    return std::span(data_).subspan(static_cast<size_t>(head * n_tokens_), static_cast<size_t>(n_tokens_));
  }
  float at(int64_t head, int64_t token) const { return data_[static_cast<size_t>(head * n_tokens_ + token)]; }
  std::vector<float>& data() { return data_; }
  const std::vector<float>& data() const { return data_; }

 private:
  int64_t n_tokens_ = 0, n_head_ = 0;
  std::vector<float> data_;
};

}  // namespace curdkv
