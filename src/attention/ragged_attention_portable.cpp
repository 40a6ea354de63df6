// The portable form: standard ggml ops over copies of the rows, for layers that lie elsewhere than in the
// CPU's memory.
#include <limits>

#include "attention/ragged_attention.h"

namespace curdkv {

void RaggedMask::write(ggml_tensor* mask) const {
  std::vector<ggml_fp16_t> row(static_cast<size_t>(width + n_new), ggml_fp32_to_fp16(0.0f));
  std::fill(row.begin() + width, row.end(), ggml_fp32_to_fp16(-std::numeric_limits<float>::infinity()));
  const size_t row_bytes = row.size() * sizeof(ggml_fp16_t);
  for (int64_t i = 0; i <= n_new; ++i) {  // the last is the spare one, never read for its values
    if (i < n_new) row[static_cast<size_t>(width + i)] = ggml_fp32_to_fp16(0.0f);
    ggml_backend_tensor_set(mask, row.data(), static_cast<size_t>(i) * row_bytes, row_bytes);
  }
}

ggml_tensor* RaggedMask::view(ggml_context* ctx, ggml_tensor* mask, int64_t length) const {
  const size_t element = sizeof(ggml_fp16_t);
  return ggml_view_2d(ctx, mask, width + n_new, n_new, static_cast<size_t>(width + n_new) * element,
                      static_cast<size_t>(width - length) * element);
}

ggml_tensor* RaggedMask::copy(ggml_context* ctx, ggml_tensor* mask, int64_t length, int64_t n) const {
  ggml_tensor* all = view(ctx, mask, length);
  return ggml_cont(ctx, ggml_view_2d(ctx, all, length + n, n, all->nb[1], 0));
}

std::vector<int64_t> tail_rows(const AttentionSpan& span, int64_t n_head_kv) {
  const Tail::Part& part = span.cache->tail().parts().back();
  std::vector<int64_t> rows;
  for (int64_t t = 0; t < span.n_new; ++t) {
    for (int64_t h = 0; h < n_head_kv; ++h) rows.push_back(h * part.segment->capacity + part.n + t);
  }
  return rows;
}

namespace {

// Rows of heads [head, head + n) of a layer, which hold n_rows each, in one tensor [d, n_rows, n]: all of
// them copied, as the op that reads them wants them in one piece. key: whether these are keys, else values.
ggml_tensor* joined_rows(Compute& compute, const AttentionSpan& span, int64_t il, int64_t head, int64_t n,
                         int64_t n_rows, bool key) {
  ggml_context* ctx = compute.context();
  const SequenceCache& cache = *span.cache;
  const CacheShape& shape = cache.shape(il);
  const auto i = static_cast<size_t>(il);
  ggml_tensor* all = ggml_new_tensor_3d(ctx, key ? shape.type_k : shape.type_v,
                                        key ? shape.d_head_k : shape.d_head_v, n_rows, n);
  for (int64_t h = head; h < head + n; ++h) {
    int64_t at = (h - head) * n_rows;
    const auto copy = [&](ggml_tensor* rows, int64_t first, int64_t count) {
      if (count == 0) return;
      ggml_tensor* to =
          ggml_view_2d(ctx, all, all->ne[0], count, all->nb[1], static_cast<size_t>(at) * all->nb[1]);
      ggml_build_forward_expand(compute.graph(), ggml_cpy(ctx, view_rows(ctx, rows, first, count), to));
      at += count;
    };
    for (const auto& block : cache.blocks()) {
      const KvLayer& l = block->layers[i];
      copy(key ? l.k : l.v, l.offset[static_cast<size_t>(h)], l.length[static_cast<size_t>(h)]);
    }
    const auto parts = cache.tail().parts();
    for (size_t p = 0; p < parts.size(); ++p) {
      const TailSegment::Layer& l = parts[p].segment->layers[i];
      copy(key ? l.k : l.v, h * parts[p].segment->capacity,
           parts[p].n + (p + 1 == parts.size() ? span.n_new : 0));
    }
  }
  return all;
}

}  // namespace

ggml_tensor* ragged_attention_portable(Compute& compute, const StepAttention& s, const AttentionLayer& layer,
                                       ggml_tensor* q, ggml_tensor* k, ggml_tensor* v,
                                       const PortableInputs& inputs, const RaggedMask& mask) {
  ggml_context* ctx = compute.context();
  const AttentionSpan& span = s.spans[0];
  const SequenceCache& cache = *span.cache;
  const int64_t il = layer.il, n_group = layer.n_group;
  const CacheShape& shape = cache.shape(il);
  const TailSegment::Layer& into = cache.tail().parts().back().segment->layers[static_cast<size_t>(il)];
  // New rows of all heads in one op: row r of the source is token r / n_head_kv, head r % n_head_kv.
  const auto store = [&](ggml_tensor* rows, ggml_tensor* fresh) {
    fresh = ggml_view_2d(ctx, fresh, fresh->ne[0], span.n_new * shape.n_head_kv, fresh->nb[1], 0);
    ggml_build_forward_expand(compute.graph(), ggml_set_rows(ctx, rows, fresh, inputs.rows));
  };
  store(into.k, k);
  store(into.v, v);
  ggml_tensor* out = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, shape.d_head_v, q->ne[1], q->ne[2]);
  out = ggml_fill_inplace(ctx, out, 0.0f);
  for (int64_t h = 0; h < shape.n_head_kv;) {
    const int64_t length = cache.length(il, h);
    int64_t n = 1;  // heads that hold as many rows
    while (h + n < shape.n_head_kv && cache.length(il, h + n) == length) ++n;
    ggml_tensor* queries = ggml_view_3d(ctx, q, q->ne[0], n * n_group, span.n_new, q->nb[1], q->nb[2],
                                        static_cast<size_t>(h * n_group) * q->nb[1]);
    ggml_tensor* keys = joined_rows(compute, span, il, h, n, length + span.n_new, true);
    ggml_tensor* values = joined_rows(compute, span, il, h, n, length + span.n_new, false);
    // One token sees every row.
    ggml_tensor* seen = inputs.mask == nullptr ? nullptr : mask.copy(ctx, inputs.mask, length, span.n_new);
    ggml_tensor* part = ggml_flash_attn_ext(ctx, ggml_permute(ctx, queries, 0, 2, 1, 3), keys, values, seen,
                                            layer.scale, 0.0f, 0.0f);
    ggml_prec_set_acc(part, GGML_PREC_F32);
    // F32 [d_v, heads of the run, n_new]
    out = ggml_set_inplace(ctx, out, part, out->nb[1], out->nb[2], out->nb[3],
                           static_cast<size_t>(h * n_group) * out->nb[1]);
    h += n;
  }
  return ggml_reshape_2d(ctx, out, shape.d_head_v * q->ne[1], q->ne[2]);
}

}  // namespace curdkv
