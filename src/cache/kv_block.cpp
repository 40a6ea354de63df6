#include "cache/kv_block.h"

#include <array>
#include <numeric>

#include "base/format.h"
#include "base/try.h"

namespace curdkv {

// Tensors without memory.
static KvLayer describe(const CacheShape& shape, int64_t il, const std::vector<int64_t>& lengths) {
  KvLayer layer;
  layer.length = lengths;
  layer.positions.resize(lengths.size());
  layer.offset.assign(lengths.size(), 0);
  std::exclusive_scan(lengths.begin(), lengths.end(), layer.offset.begin(), int64_t{0});
  const int64_t n_rows = std::accumulate(lengths.begin(), lengths.end(), int64_t{0});
  if (n_rows == 0) return layer;
  layer.context = make_ggml_context(2);
  layer.k = ggml_new_tensor_2d(layer.context.get(), shape.type_k, shape.d_head_k, n_rows);
  layer.v = ggml_new_tensor_2d(layer.context.get(), shape.type_v, shape.d_head_v, n_rows);
  ggml_format_name(layer.k, "cache_k.%d", static_cast<int>(il));
  ggml_format_name(layer.v, "cache_v.%d", static_cast<int>(il));
  return layer;
}

Result<KvLayer> KvLayer::allocate(const CacheShape& shape, ggml_backend_dev_t device, int64_t il,
                                  const std::vector<int64_t>& lengths) {
  KvLayer layer = describe(shape, il, lengths);
  if (layer.k == nullptr) return layer;
  CURDKV_TRY(layer.memory, TensorMemory::allocate(layer.context.get(), device,
                                                  format("%lld cache rows of layer %lld",
                                                         (long long)layer.k->ne[1], (long long)il)));
  return layer;
}

Result<KvLayer> KvLayer::over(const CacheShape& shape, int64_t il, const std::vector<int64_t>& lengths,
                              const char* k, const char* v) {
  KvLayer layer = describe(shape, il, lengths);
  if (layer.k == nullptr) return layer;
  CURDKV_TRY(layer.memory, TensorMemory::over(layer.context.get(), std::array{k, v}));
  return layer;
}

namespace {

// Of one head: means, keys, values, each from a cache line on.
struct PackedOffsets {
  size_t mean_k, mean_v, k, v, end;
};

PackedOffsets offsets_of(const CacheShape& shape, const KvLayer::PackedLength& head, size_t at) {
  const auto lines = [](int64_t n_bytes) { return (static_cast<size_t>(n_bytes) + 63) / 64 * 64; };
  PackedOffsets o = {};
  o.mean_k = at;
  o.mean_v = o.mean_k + lines(padded_row(shape.d_head_k) * 2);
  o.k = o.mean_v + lines(padded_row(shape.d_head_v) * 2);
  o.v = o.k + lines(packed_key_bytes(head.k, shape.d_head_k, head.n));
  o.end = o.v + lines(packed_value_bytes(head.v, shape.d_head_v, head.n));
  return o;
}

}  // namespace

size_t packed_bytes(const CacheShape& shape, const KvLayer::PackedLength& head) {
  return offsets_of(shape, head, 0).end;
}

static KvLayer describe_packed(const CacheShape& shape, int64_t il,
                               std::span<const KvLayer::PackedLength> heads) {
  KvLayer layer;
  size_t n_bytes = kPackedSlack;
  int64_t n_rows = 0;
  for (const KvLayer::PackedLength& head : heads) {
    layer.offset.push_back(n_rows);
    layer.length.push_back(head.n);
    n_rows += head.n;
    n_bytes += packed_bytes(shape, head);
  }
  layer.positions.resize(heads.size());
  layer.context = make_ggml_context(1);
  ggml_tensor* all = ggml_new_tensor_1d(layer.context.get(), GGML_TYPE_I8, static_cast<int64_t>(n_bytes));
  ggml_format_name(all, "cache_packed.%d", static_cast<int>(il));
  return layer;
}

static void find_heads(KvLayer& layer, const CacheShape& shape,
                       std::span<const KvLayer::PackedLength> heads) {
  auto* data = static_cast<char*>(layer.packed_bytes()->data);
  size_t at = 0;
  for (const KvLayer::PackedLength& head : heads) {
    const PackedOffsets o = offsets_of(shape, head, at);
    const auto mean = [&](size_t offset) { return reinterpret_cast<ggml_fp16_t*>(data + offset); };
    layer.packed.push_back({{head.k, shape.d_head_k, head.n, data + o.k, mean(o.mean_k)},
                            {head.v, shape.d_head_v, head.n, data + o.v, mean(o.mean_v)}});
    at = o.end;
  }
}

Result<KvLayer> KvLayer::allocate_packed(const CacheShape& shape, int64_t il,
                                         std::span<const PackedLength> heads) {
  KvLayer layer = describe_packed(shape, il, heads);
  CURDKV_TRY(
      layer.memory,
      TensorMemory::allocate(layer.context.get(), ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU),
                             format("%lld packed cache rows of layer %lld",
                                    (long long)(layer.offset.back() + layer.length.back()), (long long)il)));
  find_heads(layer, shape, heads);
  return layer;
}

Result<KvLayer> KvLayer::over_packed(const CacheShape& shape, int64_t il, std::span<const PackedLength> heads,
                                     const char* packed) {
  KvLayer layer = describe_packed(shape, il, heads);
  CURDKV_TRY(layer.memory, TensorMemory::over(layer.context.get(), std::array{packed}));
  find_heads(layer, shape, heads);
  return layer;
}

size_t KvBlock::n_bytes() const {
  size_t n = 0;
  for (const KvLayer& l : layers) n += l.n_bytes();
  return n;
}

ggml_tensor* view_rows(ggml_context* ctx, ggml_tensor* rows, int64_t first, int64_t n) {
  ggml_tensor* view =
      ggml_view_2d(ctx, rows, rows->ne[0], n, rows->nb[1], static_cast<size_t>(first) * rows->nb[1]);
  if (rows->buffer != nullptr) ggml_backend_view_init(view);
  return view;
}

}  // namespace curdkv
