// Tail: the rows that a sequence appended behind its blocks, as many in every head of every layer. It grows
// by segments that never move; forks share them, and copy the last one before they write to it.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "cache/kv_block.h"

namespace curdkv {

// Rows for the same tokens in all heads of all layers.
struct TailSegment {
  struct Layer {
    ggml_tensor* k = nullptr;  // type_k [d_head_k, capacity * n_head_kv], head h from row h * capacity on
    ggml_tensor* v = nullptr;  // type_v [d_head_v, capacity * n_head_kv]
  };
  int64_t capacity = 0;  // rows per head
  std::vector<Layer> layers;
  std::vector<GgmlContext> contexts;  // one for each device
  std::vector<TensorMemory> memory;

  static Result<std::shared_ptr<TailSegment>> allocate(std::span<const CacheShape> shapes,
                                                       std::span<const ggml_backend_dev_t> layer_device,
                                                       int64_t capacity);
  size_t n_bytes() const;
};

class Tail {
 public:
  static constexpr int64_t kStep =
      64;  // rows per head of the first segment, and a multiple of which later ones are

  struct Part {
    std::shared_ptr<TailSegment> segment;
    int64_t n = 0;  // rows in use
  };

  int64_t length() const { return static_cast<int64_t>(positions_.size()); }  // tokens
  std::span<const int32_t> positions() const { return positions_; }           // of each
  std::span<const Part> parts() const { return parts_; }

  // Room for n tokens in one segment, the last, which no other tail then shares. On error nothing has
  // changed.
  Result<void> reserve(std::span<const CacheShape> shapes, std::span<const ggml_backend_dev_t> layer_device,
                       int64_t n);

  void append(int64_t n, int32_t first_position);  // n rows of each head were written behind the last
  void truncate(int64_t length) noexcept;          // forgets what was appended since
  void clear() noexcept { truncate(0); }
  size_t n_bytes() const;  // allocated for rows, shared segments too

 private:
  std::vector<Part> parts_;
  std::vector<int32_t> positions_;
};

}  // namespace curdkv
