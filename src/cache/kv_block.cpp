#include "cache/kv_block.h"

#include <numeric>

#include "base/format.h"
#include "base/try.h"

namespace curdkv {

Result<KvLayer> KvLayer::allocate(const CacheShape& shape, ggml_backend_dev_t device, int64_t il,
                                  const std::vector<int64_t>& lengths) {
  KvLayer layer;
  layer.length = lengths;
  layer.offset.assign(lengths.size(), 0);
  std::exclusive_scan(lengths.begin(), lengths.end(), layer.offset.begin(), int64_t{0});
  const int64_t n_rows = std::accumulate(lengths.begin(), lengths.end(), int64_t{0});
  if (n_rows == 0) return layer;
  layer.position.resize(static_cast<size_t>(n_rows));
  layer.context = make_ggml_context(2);
  layer.k = ggml_new_tensor_2d(layer.context.get(), shape.type_k, shape.d_head_k, n_rows);
  layer.v = ggml_new_tensor_2d(layer.context.get(), shape.type_v, shape.d_head_v, n_rows);
  ggml_format_name(layer.k, "cache_k.%d", static_cast<int>(il));
  ggml_format_name(layer.v, "cache_v.%d", static_cast<int>(il));
  CURDKV_TRY(layer.memory, TensorMemory::allocate(
                               layer.context.get(), device,
                               format("%lld cache rows of layer %lld", (long long)n_rows, (long long)il)));
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
