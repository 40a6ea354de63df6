// A head's rows in blocks, and a group's queries over them; ragged_attention.cpp's own.
#pragma once

#include "attention/packed_kernel.h"
#include "attention/ragged_attention.h"
#include "base/scratch.h"

namespace curdkv {

// Blocks of a head's rows, with n_new more: those of packed rows come first, each cache block's by
// themselves.
int64_t n_packed_blocks(const SequenceCache& cache, int64_t il, int64_t head);
int64_t n_blocks(const SequenceCache& cache, int64_t il, int64_t head, int64_t n_new);

// Queries of one KV head's group and a few consecutive tokens of a span, scaled, and the partial results over
// blocks. Works in memory that it is given.
class GroupQueries {
 public:
  static void reserve(Scratch& scratch, const CacheShape& shape, int64_t n_q) {
    lay_out(scratch, shape, n_q);
  }

  GroupQueries(const AttentionLayer& layer, const AttentionSpan& span, const ggml_tensor* q, int64_t head,
               int64_t first_token, int64_t n_tokens, Scratch& scratch);

  int64_t n_q() const { return n_q_; }
  int64_t n_packed() const { return n_packed_; }  // blocks, which come first
  int64_t n_all() const;                          // blocks

  // Attends to block `index` of the head's rows; see attend_block() for the results. Of packed rows they are
  // yet to be turned back.
  void attend(int64_t index, float* out, size_t out_stride);

 private:
  struct Arrays {
    float* scaled;     // [n_q][d_k]
    float* attention;  // attend_block()'s own
    int64_t* visible;  // [n_q]
    char *k, *v;       // a block's rows, when they do not lie in one piece
    PackedQueries packed;
    float *packed_scratch, *wide;  // a block's results, of padded rows
  };
  static Arrays lay_out(Scratch& scratch, const CacheShape& shape, int64_t n_q);

  int64_t n_plain() const { return n_before_ + n_q_ / n_group_; }  // rows
  void attend_packed(int64_t index, float* out, size_t out_stride);
  RowRun find(int64_t first, int64_t n) const;

  const AttentionSpan& span_;
  const CacheShape& shape_;
  int64_t il_, head_, n_group_, n_q_;
  int64_t n_packed_;  // blocks of packed rows
  int64_t n_before_;  // rows not packed that come before the first token's own
  Arrays arrays_;
};

}  // namespace curdkv
