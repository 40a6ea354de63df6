#include "cache/tail.h"

#include <algorithm>
#include <set>

#include "base/format.h"
#include "base/try.h"

namespace curdkv {

Result<std::shared_ptr<TailSegment>> TailSegment::allocate(std::span<const CacheShape> shapes,
                                                           std::span<const ggml_backend_dev_t> layer_device,
                                                           int64_t capacity) {
  auto segment = std::make_shared<TailSegment>();
  segment->capacity = capacity;
  segment->layers.resize(layer_device.size());
  for (const ggml_backend_dev_t device : std::set(layer_device.begin(), layer_device.end())) {
    GgmlContext context = make_ggml_context(2 * layer_device.size());
    for (size_t il = 0; il < layer_device.size(); ++il) {
      if (layer_device[il] != device) continue;
      Layer& l = segment->layers[il];
      const CacheShape& shape = shapes[il];
      const int64_t n_rows = capacity * shape.n_head_kv;
      l.k = ggml_new_tensor_2d(context.get(), shape.type_k, shape.d_head_k, n_rows);
      l.v = ggml_new_tensor_2d(context.get(), shape.type_v, shape.d_head_v, n_rows);
    }
    CURDKV_TRY(TensorMemory memory,
               TensorMemory::allocate(context.get(), device,
                                      format("the cache of %lld more tokens", (long long)capacity)));
    segment->contexts.push_back(std::move(context));
    segment->memory.push_back(std::move(memory));
  }
  return segment;
}

size_t TailSegment::n_bytes() const {
  size_t n = 0;
  for (const TensorMemory& m : memory) n += m.n_bytes();
  return n;
}

namespace {

// The first n rows of every head.
void copy_rows_of_heads(const TailSegment& from, const TailSegment& to, std::span<const CacheShape> shapes,
                        int64_t n) {
  if (n == 0) return;
  for (size_t il = 0; il < from.layers.size(); ++il) {
    const int64_t n_head_kv = shapes[il].n_head_kv;
    GgmlContext views = make_ggml_context(static_cast<size_t>(4 * n_head_kv));
    for (int64_t h = 0; h < n_head_kv; ++h) {
      const auto copy = [&](ggml_tensor* src, ggml_tensor* dst) {
        ggml_backend_tensor_copy(view_rows(views.get(), src, h * from.capacity, n),
                                 view_rows(views.get(), dst, h * to.capacity, n));
      };
      copy(from.layers[il].k, to.layers[il].k);
      copy(from.layers[il].v, to.layers[il].v);
    }
  }
}

}  // namespace

Result<void> Tail::reserve(std::span<const CacheShape> shapes,
                           std::span<const ggml_backend_dev_t> layer_device, int64_t n) {
  const size_t n_positions = positions_.size() + static_cast<size_t>(n);  // append() shall not fail
  if (n_positions > positions_.capacity())
    positions_.reserve(std::max(n_positions, 2 * positions_.capacity()));
  if (!parts_.empty() && parts_.back().n + n <= parts_.back().segment->capacity) {
    Part& last = parts_.back();
    if (last.segment.use_count() == 1) return {};
    CURDKV_TRY(auto own, TailSegment::allocate(shapes, layer_device, last.segment->capacity));
    copy_rows_of_heads(*last.segment, *own, shapes, last.n);
    last.segment = std::move(own);
    return {};
  }
  // A long tail grows by larger steps, so that it comes to have few segments.
  const int64_t step = std::clamp(length() / 4, kStep, 16 * kStep);
  const int64_t capacity = (std::max(n, step) + kStep - 1) / kStep * kStep;
  parts_.reserve(parts_.size() + 1);
  CURDKV_TRY(auto segment, TailSegment::allocate(shapes, layer_device, capacity));
  if (!parts_.empty() && parts_.back().n == 0) parts_.pop_back();  // was too small
  parts_.push_back({std::move(segment), 0});
  return {};
}

void Tail::append(int64_t n, int32_t first_position) {
  for (int64_t i = 0; i < n; ++i) positions_.push_back(first_position + static_cast<int32_t>(i));
  parts_.back().n += n;
}

void Tail::truncate(int64_t n) noexcept {
  positions_.resize(static_cast<size_t>(n));
  int64_t first = 0;
  size_t i = 0;
  for (; i < parts_.size() && first < n; ++i) {
    parts_[i].n = std::min(parts_[i].n, n - first);
    first += parts_[i].n;
  }
  parts_.resize(i);
}

size_t Tail::n_bytes() const {
  size_t n = 0;
  for (const Part& p : parts_) n += p.segment->n_bytes();
  return n;
}

}  // namespace curdkv
