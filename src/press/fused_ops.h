// Operations beyond ggml's for graphs over a layer that lies in the host's memory. What is large on the way
// to their results never leaves the processor's cache. Rows are F16 or F32 [d, n, heads], those of ne0
// contiguous.
#pragma once

#include <ggml.h>

#include <cstdint>

namespace curdkv {

class FusedOps {
 public:
  static constexpr int64_t kSquareParts = 8;  // of column_squares()
  virtual ~FusedOps() = default;

  // What tokens get of the attention if all of a chunk attend to all of it: F32 [n, n_head], the sums of the
  // columns of softmax(scale Q K^T). padded: a short last chunk is filled up with rows of zeros.
  virtual ggml_tensor* chunk_columns(ggml_tensor* q, ggml_tensor* k, int64_t chunk, float scale,
                                     bool padded) = 0;
  // Sums of the rows' outer products with themselves, over some tokens each: F32 [d, d, heads, parts].
  virtual ggml_tensor* gram_parts(ggml_tensor* rows) = 0;
  // Sums over queries of their squared weights on every row: q: F32 [d, m, heads], contiguous; the squares of
  // softmax(scale Q K^T), added up in parts: F32 [more than n, heads, kSquareParts], the last of each column
  // being the sum of ReferenceWorth's induction; tokens: F32 [m], the row that each is the query of.
  virtual ggml_tensor* column_squares(ggml_tensor* q, ggml_tensor* tokens, ggml_tensor* k, float scale) = 0;
  // |W x|^2 of every row, w: F32 [d, rank, heads], or |x|^2 if it is null: F32 [n, heads].
  virtual ggml_tensor* squared_norms(ggml_tensor* rows, ggml_tensor* w) = 0;
};

}  // namespace curdkv
