// KvBlock: keys and values that were kept, with a length of its own for every layer and KV head. Immutable
// once it is made, and shared by all sequences that hold it. Nothing is padded to the longest head, and GQA
// is never expanded. It knows nothing of presses: it is told how many rows each head keeps.
#pragma once

#include <ggml-backend.h>
#include <ggml.h>

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/mapped_file.h"
#include "base/tensor_memory.h"
#include "cache/packed_rows.h"
#include "cache/row_positions.h"
#include "curdkv/result.h"

namespace curdkv {

// The rows of one layer.
struct CacheShape {
  int64_t n_head_kv;
  int64_t d_head_k;
  int64_t d_head_v;
  ggml_type type_k = GGML_TYPE_F16;  // one of cache_types()
  ggml_type type_v = GGML_TYPE_F16;

  size_t row_bytes_k() const { return ggml_row_size(type_k, d_head_k); }  // of one token of one KV head
  size_t row_bytes_v() const { return ggml_row_size(type_v, d_head_v); }
  size_t row_bytes() const { return row_bytes_k() + row_bytes_v(); }
  size_t bytes_uncompressed(int64_t n_tokens) const {  // of all heads
    return static_cast<size_t>(n_tokens * n_head_kv) * row_bytes();
  }
};

struct PackedHead {
  PackedRows k, v;
};

// One layer. Head h holds rows [offset[h], offset[h] + length[h]) of k and v; or, where the layer is packed,
// those of packed[h], which `offset` numbers likewise.
struct KvLayer {
  std::vector<int64_t> offset, length;  // rows, per KV head
  std::vector<RowPositions> positions;  // likewise: tokens' places in the sequence, as RoPE had them
  ggml_tensor* k = nullptr;        // type_k [d_head_k, sum of length]; null if no head holds a row, or packed
  ggml_tensor* v = nullptr;        // type_v [d_head_v, sum of length]
  std::vector<PackedHead> packed;  // per KV head, or empty

  GgmlContext context;
  TensorMemory memory;

  // All heads' packed rows and means, I8; null if the layer is not packed.
  ggml_tensor* packed_bytes() const {
    return k == nullptr && context ? ggml_get_first_tensor(context.get()) : nullptr;
  }

  // Room for so many rows per KV head, all of them in use; the rows and their positions are the caller's to
  // write. Errors: out_of_memory.
  static Result<KvLayer> allocate(const CacheShape& shape, ggml_backend_dev_t device, int64_t il,
                                  const std::vector<int64_t>& lengths);

  // Room for packed rows of such types, all zero; the CPU's.
  struct PackedLength {
    RowType k, v;
    int64_t n;
  };
  static Result<KvLayer> allocate_packed(const CacheShape& shape, int64_t il,
                                         std::span<const PackedLength> heads);

  // Rows that lie somewhere already, which is only read and outlives the layer; the positions are the
  // caller's to write. k and v: those of all heads, as allocate() would have them; null where no head holds a
  // row.
  static Result<KvLayer> over(const CacheShape& shape, int64_t il, const std::vector<int64_t>& lengths,
                              const char* k, const char* v);
  // The same of packed rows: from what allocate_packed() calls its beginning on, on a cache line.
  static Result<KvLayer> over_packed(const CacheShape& shape, int64_t il, std::span<const PackedLength> heads,
                                     const char* packed);

  size_t n_bytes() const { return memory.n_bytes(); }  // of keys and values
};

// What allocate_packed() takes for one head.
size_t packed_bytes(const CacheShape& shape, const KvLayer::PackedLength& head);

struct KvBlock {
  std::vector<KvLayer> layers;
  std::shared_ptr<const MappedFile> file;  // that rows lie in; null if they lie in memory of the layers' own
  size_t n_bytes() const;                  // of keys and values
};

// Rows [first, first + n) of [d_head, rows]. The view is ready to be read or written by a graph.
ggml_tensor* view_rows(ggml_context* ctx, ggml_tensor* rows, int64_t first, int64_t n);

}  // namespace curdkv
