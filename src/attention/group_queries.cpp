#include "attention/group_queries.h"

#include <algorithm>
#include <cstring>

#include "attention/attention_kernel.h"

namespace curdkv {

int64_t n_packed_blocks(const SequenceCache& cache, int64_t il, int64_t head) {
  int64_t n = 0;
  cache.for_each_packed(il, head, [&](const PackedHead& rows) { n += n_blocks_of(rows.k.n); });
  return n;
}

int64_t n_blocks(const SequenceCache& cache, int64_t il, int64_t head, int64_t n_new) {
  return n_packed_blocks(cache, il, head) + n_blocks_of(cache.n_plain(il, head) + n_new);
}

GroupQueries::GroupQueries(const AttentionLayer& layer, const AttentionSpan& span, const ggml_tensor* q,
                           int64_t head, int64_t first_token, int64_t n_tokens, Scratch& scratch)
    : span_(span),
      shape_(span.cache->shape(layer.il)),
      il_(layer.il),
      head_(head),
      n_group_(layer.n_group),
      n_q_(layer.n_group * n_tokens),
      n_packed_(n_packed_blocks(*span.cache, layer.il, head)),
      n_before_(span.cache->n_plain(layer.il, head) + first_token),
      arrays_(lay_out(scratch, shape_, n_q_)) {
  const int64_t d_k = shape_.d_head_k;
  for (int64_t i = 0; i < n_q_; ++i) {
    const char* from = static_cast<const char*>(q->data) +
                       static_cast<size_t>(head * n_group_ + i % n_group_) * q->nb[1] +
                       static_cast<size_t>(span.column + first_token + i / n_group_) * q->nb[2];
    float* to = arrays_.scaled + i * d_k;
    for (int64_t d = 0; d < d_k; ++d) to[d] = reinterpret_cast<const float*>(from)[d] * layer.scale;
  }
  if (n_packed_ > 0) arrays_.packed.set(arrays_.scaled, d_k);
}

GroupQueries::Arrays GroupQueries::lay_out(Scratch& scratch, const CacheShape& shape, int64_t n_q) {
  Arrays a = {};
  a.scaled = scratch.take<float>(n_q * shape.d_head_k);
  a.attention = scratch.take<float>(
      static_cast<int64_t>(attention_scratch_floats(n_q, shape.d_head_k, shape.d_head_v)));
  a.visible = scratch.take<int64_t>(n_q);
  a.k = scratch.take<char>(kBlockRows * static_cast<int64_t>(shape.row_bytes_k()));
  a.v = scratch.take<char>(kBlockRows * static_cast<int64_t>(shape.row_bytes_v()));
  a.packed = PackedQueries::lay_out(scratch, n_q, shape.d_head_k);
  a.packed_scratch = scratch.take<float>(kPackedScratchFloats);
  a.wide = scratch.take<float>(n_q * (padded_row(shape.d_head_v) + 2));
  return a;
}

int64_t GroupQueries::n_all() const {
  return n_packed_ + n_blocks_of(n_plain());
}

void GroupQueries::attend(int64_t index, float* out, size_t out_stride) {
  if (index < n_packed_) return attend_packed(index, out, out_stride);
  const int64_t first_row = (index - n_packed_) * kBlockRows;
  const int64_t n = std::min(kBlockRows, n_plain() - first_row);
  for (int64_t i = 0; i < n_q_; ++i)
    arrays_.visible[i] = std::clamp<int64_t>(n_before_ + i / n_group_ + 1 - first_row, 0, n);
  const RowRun rows = find(first_row, n);
  attend_block({arrays_.scaled, arrays_.visible, n_q_, rows.k, rows.v, shape_.row_bytes_k(),
                shape_.row_bytes_v(), shape_.type_k, shape_.type_v, n, shape_.d_head_k, shape_.d_head_v},
               out, out_stride, arrays_.attention);
}

void GroupQueries::attend_packed(int64_t index, float* out, size_t out_stride) {
  const int64_t width = padded_row(shape_.d_head_v) + 2;
  span_.cache->for_each_packed(il_, head_, [&](const PackedHead& rows) {
    const int64_t n = n_blocks_of(rows.k.n);
    if (index >= 0 && index < n) {
      const int64_t first = index * kBlockRows;
      attend_packed_block({arrays_.packed, rows.k, rows.v, first, std::min(kBlockRows, rows.k.n - first)},
                          arrays_.wide, static_cast<size_t>(width), arrays_.packed_scratch);
    }
    index -= n;
  });
  for (int64_t i = 0; i < n_q_; ++i)
    std::copy_n(arrays_.wide + i * width, shape_.d_head_v + 2, out + static_cast<size_t>(i) * out_stride);
}

// Rows [first, first + n) of the head: where they lie, or gathered.
RowRun GroupQueries::find(int64_t first, int64_t n) const {
  RowRun found = {};
  int64_t at = 0;  // the run's first row
  span_.cache->for_each_run(il_, head_, span_.n_new, [&](const RowRun& run) {
    const int64_t begin = std::max(at, first), end = std::min(at + run.n, first + n);
    if (begin < end) {
      const auto from = static_cast<size_t>(begin - at), to = static_cast<size_t>(begin - first),
                 count = static_cast<size_t>(end - begin);
      const size_t k = shape_.row_bytes_k(), v = shape_.row_bytes_v();
      if (end - begin == n) {
        found = {run.k + from * k, run.v + from * v, n};
      } else {
        std::memcpy(arrays_.k + to * k, run.k + from * k, count * k);
        std::memcpy(arrays_.v + to * v, run.v + from * v, count * v);
        found = {arrays_.k, arrays_.v, n};
      }
    }
    at += run.n;
  });
  return found;
}

}  // namespace curdkv
