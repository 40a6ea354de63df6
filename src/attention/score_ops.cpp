#include "attention/score_ops.h"

#include <algorithm>

#include "attention/chunk_kernel.h"
#include "attention/gram_kernel.h"
#include "base/tickets.h"

namespace curdkv {
namespace {

constexpr int64_t kPart = 1024;  // tokens at a time of Gram matrices and norms

int64_t parts_of(const ggml_tensor* rows) {
  return (rows->ne[1] + kPart - 1) / kPart;
}

// Tokens of a part.
RowsOf part_of(const ggml_tensor* x, int64_t head, int64_t first) {
  return {row_of(x, head, first), x->nb[1], x->type, std::min(kPart, x->ne[1] - first), x->ne[0]};
}

// src: q, k. A chunk of one KV head at a time.
struct AttendChunks {
  int64_t chunk;
  float scale;
  bool padded;
  Tickets chunks = {};

  void operator()(ggml_tensor* dst, const OpThread& thread) {
    const ggml_tensor *q = dst->src[0], *k = dst->src[1];
    const int64_t n = k->ne[1], n_head_kv = k->ne[2], n_group = q->ne[2] / n_head_kv;
    for (int64_t i; (i = chunks.draw((n + chunk - 1) / chunk * n_head_kv, thread.nth)) >= 0;) {
      const int64_t first = i / n_head_kv * chunk, h = i % n_head_kv, m = std::min(chunk, n - first);
      attend_chunk({.q = row_of(q, h * n_group, first),
                    .k = row_of(k, h, first),
                    .q_head_stride = q->nb[2],
                    .q_token_stride = q->nb[1],
                    .k_stride = k->nb[1],
                    .type_q = q->type,
                    .type_k = k->type,
                    .n_tokens = m,
                    .n_group = n_group,
                    .d = k->ne[0],
                    .n_zeros = padded ? chunk - m : 0,
                    .scale = scale,
                    .out = static_cast<float*>(dst->data) + h * n_group * n + first,
                    .out_head_stride = n},
                   thread.scratch);
    }
  }
};

// src: rows. A part of one head at a time.
struct GramParts {
  Tickets parts = {};

  void operator()(ggml_tensor* dst, const OpThread& thread) {
    const ggml_tensor* rows = dst->src[0];
    const int64_t d = rows->ne[0], n_head = rows->ne[2];
    for (int64_t i; (i = parts.draw(parts_of(rows) * n_head, thread.nth)) >= 0;) {
      gram_of(part_of(rows, i % n_head, i / n_head * kPart), static_cast<float*>(dst->data) + i * d * d,
              thread.scratch);
    }
  }
};

// src: rows, perhaps w. A part of one head at a time.
struct SquaredNorms {
  Tickets parts = {};

  void operator()(ggml_tensor* dst, const OpThread& thread) {
    const ggml_tensor *rows = dst->src[0], *w = dst->src[1];
    const int64_t n_head = rows->ne[2], rank = w == nullptr ? 0 : w->ne[1];
    for (int64_t i; (i = parts.draw(parts_of(rows) * n_head, thread.nth)) >= 0;) {
      const int64_t h = i % n_head, first = i / n_head * kPart;
      const float* of_head =
          w == nullptr ? nullptr : static_cast<const float*>(w->data) + h * rank * rows->ne[0];
      squared_norms_of(part_of(rows, h, first), of_head, rank,
                       static_cast<float*>(dst->data) + h * rows->ne[1] + first, thread.scratch);
    }
  }
};

}  // namespace

ggml_tensor* gram_parts_cpu(Compute& compute, ggml_tensor* rows) {
  const int64_t d = rows->ne[0];
  return compute.custom<GramParts>(GGML_TYPE_F32, {d, d, rows->ne[2], parts_of(rows)}, std::span(&rows, 1),
                                   gram_scratch_bytes(d));
}

ggml_tensor* squared_norms_cpu(Compute& compute, ggml_tensor* rows, ggml_tensor* w) {
  ggml_tensor* args[] = {rows, w};
  return compute.custom<SquaredNorms>(GGML_TYPE_F32, {rows->ne[1], rows->ne[2], 1, 1},
                                      std::span(args, w == nullptr ? 1 : 2),
                                      norms_scratch_bytes(rows->ne[0], w == nullptr ? 0 : w->ne[1]));
}

ggml_tensor* chunk_columns_cpu(Compute& compute, ggml_tensor* q, ggml_tensor* k, int64_t chunk, float scale,
                               bool padded) {
  ggml_tensor* args[] = {q, k};
  const size_t scratch = chunk_scratch_bytes(std::min(chunk, k->ne[1]), q->ne[2] / k->ne[2], k->ne[0]);
  return compute.custom<AttendChunks>(GGML_TYPE_F32, {k->ne[1], q->ne[2], 1, 1}, args, scratch, chunk, scale,
                                      padded);
}

}  // namespace curdkv
