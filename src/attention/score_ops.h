// What scorers compute of a layer that lies in the host's memory, as operations that keep what is large on
// the way in the processor's cache. Rows are F16 or F32 [d, n, heads], those of ne0 contiguous.
#pragma once

#include <span>

#include "compute/compute.h"

namespace curdkv {

// Where token t of a head lies, of [d, n, heads].
inline const char* row_of(const ggml_tensor* x, int64_t head, int64_t t) {
  return static_cast<const char*>(x->data) + static_cast<size_t>(t) * x->nb[1] +
         static_cast<size_t>(head) * x->nb[2];
}

// q: [d, n, n_head], k: [d, n, n_head_kv]. The tokens of a chunk attend to all of their chunk. padded: a
// short last chunk is filled up with rows of zeros. Returns F32 [n, n_head]: the sums of the columns of
// softmax(scale Q K^T). A chunk's do not depend on the other chunks.
ggml_tensor* chunk_columns_cpu(Compute& compute, ggml_tensor* q, ggml_tensor* k, int64_t chunk, float scale,
                               bool padded);

// Gram matrices in parts of some tokens each, which add up to them: F32 [d, d, heads, parts].
ggml_tensor* gram_parts_cpu(Compute& compute, ggml_tensor* rows);

// q: F32 [d, m, heads], contiguous; tokens: F32 [m]. Returns F32 [more than n, heads, kColumnSquaresParts]:
// parts of the sums over the queries of their squared weights on every row, and last in every column of these
// shares, which must outlive the graph, of their weights on the rows from their own token's on. Keys, as
// packed rows, and queries are taken in 8 bits.
inline constexpr int64_t kColumnSquaresParts = 8;  // whoever computes one, each is added up in one order
ggml_tensor* column_squares_cpu(Compute& compute, ggml_tensor* q, ggml_tensor* tokens, ggml_tensor* k,
                                float scale, std::span<const float> shares);

// w: F32 [d, rank, heads], contiguous, or null. Returns F32 [n, heads]: |W x|^2 of every row, or |x|^2.
ggml_tensor* squared_norms_cpu(Compute& compute, ggml_tensor* rows, ggml_tensor* w);

}  // namespace curdkv
