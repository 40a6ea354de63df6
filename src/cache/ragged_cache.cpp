#include "cache/ragged_cache.h"

#include <algorithm>
#include <atomic>
#include <numeric>

#include "base/format.h"
#include "base/try.h"

namespace curdkv {

int64_t RaggedLayer::longest() const {
  return length.empty() ? 0 : *std::max_element(length.begin(), length.end());
}

RaggedCache::RaggedCache(const CacheShape& shape, const std::vector<ggml_backend_dev_t>& layer_device)
    : shape_(shape), layer_device_(layer_device) {
  layers_.resize(static_cast<size_t>(shape_.n_layer));
  const std::vector<int64_t> zero(static_cast<size_t>(shape_.n_head_kv), 0);
  for (RaggedLayer& l : layers_) l.offset = l.length = l.capacity = zero;
}

void RaggedCache::clear() noexcept {
  for (RaggedLayer& l : layers_) {
    for (std::vector<int64_t>* rows : {&l.offset, &l.length, &l.capacity})
      std::fill(rows->begin(), rows->end(), 0);
    l.k = l.v = nullptr;
    l.id = 0;
    l.buffer.reset();
    l.context.reset();
  }
}

uint64_t RaggedCache::version() const {
  uint64_t latest = 0;
  for (const RaggedLayer& l : layers_) latest = std::max(latest, l.id);
  return latest;
}

Result<RaggedLayer> RaggedCache::allocate_layer(int64_t il, const std::vector<int64_t>& lengths,
                                                const std::vector<int64_t>& capacity) const {
  RaggedLayer layer;
  layer.length = lengths;
  layer.capacity = capacity;
  layer.offset.assign(capacity.size(), 0);
  std::exclusive_scan(capacity.begin(), capacity.end(), layer.offset.begin(), int64_t{0});
  const int64_t n_rows = std::accumulate(capacity.begin(), capacity.end(), int64_t{0});
  static std::atomic<uint64_t> last_id = 0;
  layer.id = ++last_id;
  if (n_rows == 0) return layer;
  layer.context = make_ggml_context(2);
  layer.k = ggml_new_tensor_2d(layer.context.get(), shape_.type_k, shape_.d_head_k, n_rows);
  layer.v = ggml_new_tensor_2d(layer.context.get(), shape_.type_v, shape_.d_head_v, n_rows);
  ggml_format_name(layer.k, "cache_k.%d", static_cast<int>(il));
  ggml_format_name(layer.v, "cache_v.%d", static_cast<int>(il));
  const auto buft = ggml_backend_dev_buffer_type(layer_device_[static_cast<size_t>(il)]);
  layer.buffer.reset(ggml_backend_alloc_ctx_tensors_from_buft(layer.context.get(), buft));
  if (!layer.buffer) {
    return Error{ErrorCode::out_of_memory, format("not enough memory for %lld cache rows of layer %lld",
                                                  (long long)n_rows, (long long)il)};
  }
  return layer;
}

ggml_tensor* view_rows(ggml_context* ctx, ggml_tensor* rows, int64_t first, int64_t n) {
  ggml_tensor* view =
      ggml_view_2d(ctx, rows, rows->ne[0], n, rows->nb[1], static_cast<size_t>(first) * rows->nb[1]);
  if (rows->buffer != nullptr) ggml_backend_view_init(view);
  return view;
}

Result<void> RaggedCache::grow(int64_t il, int64_t n) {
  RaggedLayer& from = layers_[static_cast<size_t>(il)];
  // Room beyond what is asked for, so that generating token by token moves the rows seldom.
  const int64_t slack = std::max<int64_t>(128, from.longest() / 16);
  std::vector<int64_t> capacity;
  for (int64_t length : from.length) capacity.push_back(length + n + slack);
  CURDKV_TRY(RaggedLayer to, allocate_layer(il, from.length, capacity));
  GgmlContext views = make_ggml_context(4 * capacity.size());
  for (size_t h = 0; h < capacity.size(); ++h) {
    if (from.length[h] == 0) continue;
    for (auto [src, dst] : {std::pair{from.k, to.k}, std::pair{from.v, to.v}}) {
      ggml_backend_tensor_copy(view_rows(views.get(), src, from.offset[h], from.length[h]),
                               view_rows(views.get(), dst, to.offset[h], from.length[h]));
    }
  }
  from = std::move(to);
  return {};
}

Result<void> RaggedCache::reserve(int64_t n) {
  for (int64_t il = 0; il < shape_.n_layer; ++il) {
    const RaggedLayer& l = layer(il);
    bool fits = true;
    for (size_t h = 0; h < l.length.size(); ++h) fits = fits && l.length[h] + n <= l.capacity[h];
    if (fits) continue;
    CURDKV_CHECK(grow(il, n));
  }
  return {};
}

void RaggedCache::append(int64_t n) {
  for (RaggedLayer& l : layers_) {
    for (int64_t& length : l.length) length += n;
  }
}

RaggedCache::Mark RaggedCache::mark() const {
  Mark mark;
  for (const RaggedLayer& l : layers_) mark.push_back(l.length);
  return mark;
}

void RaggedCache::rewind(const Mark& mark) noexcept {
  for (size_t il = 0; il < layers_.size(); ++il)
    std::copy(mark[il].begin(), mark[il].end(), layers_[il].length.begin());
}

size_t RaggedCache::n_bytes() const {
  size_t n = 0;
  for (const RaggedLayer& l : layers_) n += l.buffer ? ggml_backend_buffer_get_size(l.buffer.get()) : 0;
  return n;
}

size_t RaggedCache::n_bytes_uncompressed(int64_t n_tokens) const {
  return static_cast<size_t>(n_tokens * shape_.n_layer * shape_.n_head_kv) * shape_.row_bytes();
}

}  // namespace curdkv
