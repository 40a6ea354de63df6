// One layer of a context in host memory, as figures look at it.
#pragma once

#include <Eigen/Core>
#include <span>
#include <vector>

#include "press/scorer.h"

namespace curdkv::analysis {

// A head's rows as a matrix, without a copy.
using Rows = Eigen::Map<const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>;

struct LayerRows {
  int64_t n_tokens = 0, n_head = 0, n_head_kv = 0, d_k = 0, d_v = 0;
  std::vector<float> q;  // F32 [d_k, n_tokens, n_head], after RoPE, times the scale of Q K^T
  std::vector<float> k;  // F32 [d_k, n_tokens, n_head_kv], after RoPE
  std::vector<float> v;  // F32 [d_v, n_tokens, n_head_kv]

  int64_t n_group() const { return n_head / n_head_kv; }
  Rows queries(int64_t head) const { return rows_of(q, head, d_k); }
  Rows keys(int64_t head_kv) const { return rows_of(k, head_kv, d_k); }
  Rows values(int64_t head_kv) const { return rows_of(v, head_kv, d_v); }

  // Copies a layer whose queries are all there.
  static Result<LayerRows> of(LayerView& layer);

 private:
  Rows rows_of(const std::vector<float>& data, int64_t head, int64_t d) const {
    return {data.data() + head * n_tokens * d, n_tokens, d};
  }
};

}  // namespace curdkv::analysis
