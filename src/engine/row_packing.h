// Kept rows of a layer that was read, on their way into the cache in few bits: what types and means its heads
// have, the rows encoded, and where they lie in the end. Only where the layer lies in the CPU's memory.
#pragma once

#include <optional>
#include <vector>

#include "base/pages.h"
#include "cache/kv_block.h"
#include "compute/compute.h"
#include "engine/layer_scoring.h"

namespace curdkv {

// One head's rows, encoded, in the order in which they are given up from the end.
struct EncodedHead {
  RowType type_k, type_v;
  std::vector<ggml_fp16_t> mean_k, mean_v;  // [padded_row(d)], turned
  std::vector<int32_t> tokens;              // of the rows
  Pages rows;                               // row_bytes each: the key, then the value

  int64_t key_bytes(const CacheShape& shape) const { return encoded_row_bytes(type_k, shape.d_head_k); }
  int64_t row_bytes(const CacheShape& shape) const {
    return key_bytes(shape) + encoded_row_bytes(type_v, shape.d_head_v);
  }
  void cut(const CacheShape& shape, int64_t n);  // keeps the first n rows
};

// Types of kept rows as a press wants them; automatic: as each head's keys need.
struct WantedTypes {
  RowType k, v;
  double key_error = 0.5;
};

// Types and means of all heads of the layer, over the n_tokens that were read. references: of keys whose type
// is to be found: the first whose rows change the logits of these queries by no more than
// key_error (root mean square).
Result<std::vector<EncodedHead>> choose_types(Compute& compute, const LayerKv& kv, const CacheShape& shape,
                                              int64_t n_tokens, const WantedTypes& wanted,
                                              const ReferenceQueries& references, float kq_scale);

// Encodes the rows of each head's `tokens`. Errors: out_of_memory.
Result<void> encode_rows(Compute& compute, const LayerKv& kv, const CacheShape& shape,
                         std::vector<EncodedHead>& heads);

// The rows of all heads as a layer of the cache, by ascending tokens. Errors: out_of_memory.
Result<KvLayer> lay_out_rows(Compute& compute, const CacheShape& shape, int64_t il,
                             std::span<const EncodedHead> heads, int64_t first_position);

}  // namespace curdkv
