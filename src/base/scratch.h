// Arrays laid out one behind the other in memory that is there already: one function lays them out both to
// learn how many bytes they take and to use them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace curdkv {

class Scratch {
 public:
  static constexpr size_t kAlignment = 64;  // of every array, and of the memory

  Scratch() = default;  // measures: arrays are null
  explicit Scratch(char* memory) : memory_(memory) {}

  template <typename T>
  T* take(int64_t n) {
    T* array = memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + n_bytes_);
    n_bytes_ += (static_cast<size_t>(n) * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    return array;
  }

  size_t n_bytes() const { return n_bytes_; }

  // What lay_out(scratch) takes.
  template <typename LayOut>
  static size_t measure(const LayOut& lay_out) {
    Scratch nothing;
    lay_out(nothing);
    return nothing.n_bytes();
  }

 private:
  char* memory_ = nullptr;
  size_t n_bytes_ = 0;
};

}  // namespace curdkv
