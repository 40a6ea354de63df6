// RaggedCache: keys and values of every layer, with a length of its own for every KV head.
//
// Nothing is padded to the longest head and GQA is never expanded. Each layer owns one backend buffer with a
// K and a V tensor; head h holds `length[h]` rows of them from row `offset[h]` on, with room up to
// `capacity[h]`. The cache knows nothing of presses: it is told how many rows each head keeps, and grows by
// appending. Not thread-safe; one session owns it.
#pragma once

#include <ggml-backend.h>
#include <ggml.h>

#include <cstdint>
#include <vector>

#include "base/ggml_ptr.h"
#include "curdkv/result.h"

namespace curdkv {

struct CacheShape {
  int64_t n_layer;
  int64_t n_head_kv;
  int64_t d_head_k;
  int64_t d_head_v;
  ggml_type type_k = GGML_TYPE_F16;  // one of cache_types()
  ggml_type type_v = GGML_TYPE_F16;

  size_t row_bytes() const {  // of one token of one KV head, K and V together
    return ggml_row_size(type_k, d_head_k) + ggml_row_size(type_v, d_head_v);
  }
};

struct RaggedLayer {
  std::vector<int64_t> offset;    // rows, per KV head
  std::vector<int64_t> length;    // rows in use, per KV head
  std::vector<int64_t> capacity;  // rows there is room for, per KV head
  ggml_tensor* k = nullptr;       // type_k [d_head_k, sum of capacity]
  ggml_tensor* v = nullptr;       // type_v [d_head_v, sum of capacity]

  uint64_t id = 0;  // of this allocation; later ones have greater ones

  int64_t longest() const;

  GgmlContext context;
  GgmlBuffer buffer;
};

class RaggedCache {
 public:
  // What mark() remembers: the lengths of all heads.
  using Mark = std::vector<std::vector<int64_t>>;

  RaggedCache() = default;
  // layer_device: where each layer's buffer is to lie. Allocates nothing yet.
  RaggedCache(const CacheShape& shape, const std::vector<ggml_backend_dev_t>& layer_device);

  const CacheShape& shape() const { return shape_; }
  const RaggedLayer& layer(int64_t il) const { return layers_[static_cast<size_t>(il)]; }

  // A layer il with these lengths, and room for `capacity` rows, per KV head. Its rows are the caller's to
  // write before it takes the place of the old one.
  Result<RaggedLayer> allocate_layer(int64_t il, const std::vector<int64_t>& lengths,
                                     const std::vector<int64_t>& capacity) const;
  void replace(int64_t il, RaggedLayer layer) { layers_[static_cast<size_t>(il)] = std::move(layer); }

  // Makes room for n more rows in every head, moving layers that lack it. On error some have moved; they hold
  // what they held before.
  Result<void> reserve(int64_t n);

  // Another one whenever any layer was moved or replaced, in whatever way: a graph serves as long as the
  // cache has the version that it was built over. No two caches have the same, but for 0 of empty ones.
  uint64_t version() const;

  void append(int64_t n);  // n rows were written behind every head's length; room must be there
  Mark mark() const;
  void rewind(const Mark& mark) noexcept;  // forgets what was appended since; the room stays
  void clear() noexcept;                   // frees everything

  size_t n_bytes() const;                               // allocated now, as the backends report it
  size_t n_bytes_uncompressed(int64_t n_tokens) const;  // what n_tokens cost with nothing evicted

 private:
  Result<void> grow(int64_t il, int64_t n);

  CacheShape shape_ = {};
  std::vector<ggml_backend_dev_t> layer_device_;
  std::vector<RaggedLayer> layers_;
};

// Rows [first, first + n) of head h: [d_head, n]. The view is ready to be read or written by a graph.
ggml_tensor* view_rows(ggml_context* ctx, ggml_tensor* rows, int64_t first, int64_t n);

}  // namespace curdkv
