#include "attention/ragged_attention.h"

#include <ggml-cpu.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "attention/group_queries.h"

namespace curdkv {
namespace {

// The slice of [0, n) that thread ith of nth works on.
struct Slice {
  int64_t begin, end;
};
Slice slice_of(int64_t n, const OpThread& thread) {
  return {n * thread.ith / thread.nth, n * (thread.ith + 1) / thread.nth};
}

float* column(const ggml_tensor* t, int64_t i) {
  return reinterpret_cast<float*>(static_cast<char*>(t->data) + static_cast<size_t>(i) * t->nb[1]);
}

// src: k, v. dst: nothing. Writes the new rows into the tails.
struct StoreRows {
  const StepAttention& s;
  int64_t il;

  void operator()(ggml_tensor* dst, const OpThread& thread) const {
    const int64_t n_head_kv = dst->src[0]->ne[1];
    const auto i = static_cast<size_t>(il);
    int64_t n_rows = 0;
    for (const AttentionSpan& span : s.spans) n_rows += span.n_new * n_head_kv;
    const Slice mine = slice_of(n_rows, thread);
    int64_t first = 0;  // row of the span, among all
    for (const AttentionSpan& span : s.spans) {
      const Tail::Part& part = span.cache->tail().parts().back();
      const int64_t n = span.n_new * n_head_kv;
      for (int64_t r = std::max(mine.begin, first); r < std::min(mine.end, first + n); ++r) {
        const int64_t t = (r - first) / n_head_kv, h = (r - first) % n_head_kv;
        const int64_t row = h * part.segment->capacity + part.n + t;
        store(dst->src[0], h, span.column + t, part.segment->layers[i].k, row);
        store(dst->src[1], h, span.column + t, part.segment->layers[i].v, row);
      }
      first += n;
    }
  }

  static void store(const ggml_tensor* fresh, int64_t head, int64_t token, ggml_tensor* rows, int64_t row) {
    const auto* from = reinterpret_cast<const float*>(static_cast<const char*>(fresh->data) +
                                                      static_cast<size_t>(head) * fresh->nb[1] +
                                                      static_cast<size_t>(token) * fresh->nb[2]);
    char* to = static_cast<char*>(rows->data) + static_cast<size_t>(row) * rows->nb[1];
    if (rows->type == GGML_TYPE_F32) {
      std::memcpy(to, from, rows->nb[1]);
    } else {
      ggml_get_type_traits_cpu(rows->type)->from_float(from, to, rows->ne[0]);
    }
  }
};

// Results of packed rows, folded, become those of rows as they were.
void turn_back(float* acc, int64_t d_v) {
  turn_row(acc + 2, d_v);
}

// Results of so many queries over no block yet.
void start_fold(float* acc, int64_t n_q, int64_t width) {
  std::fill_n(acc, n_q * width, 0.0f);
  for (int64_t i = 0; i < n_q; ++i) acc[i * width] = -std::numeric_limits<float>::infinity();
}

// Decoding, first op. dst: F32 [d_v + 2, n_group, blocks of all heads of all spans], which are shared out
// evenly.
struct DecodeBlocks {
  const StepAttention& s;
  AttentionLayer layer;

  static size_t scratch_bytes(const CacheShape& shape, int64_t n_group) {
    return Scratch::measure([&](Scratch& scratch) { GroupQueries::reserve(scratch, shape, n_group); });
  }

  void operator()(ggml_tensor* dst, const OpThread& thread) const {
    if (!s.decoding) return;
    const Slice mine = slice_of(n_attention_blocks(s, layer.il), thread);
    int64_t first = 0;  // the head's first block, among all
    for (const AttentionSpan& span : s.spans) {
      for (int64_t h = 0; h < span.cache->shape(layer.il).n_head_kv && first < mine.end; ++h) {
        const int64_t n = n_blocks(*span.cache, layer.il, h, 1);
        const int64_t begin = std::max(mine.begin, first), end = std::min(mine.end, first + n);
        if (begin < end) {
          Scratch scratch(thread.scratch);
          GroupQueries group(layer, span, dst->src[0], h, 0, 1, scratch);
          for (int64_t b = begin; b < end; ++b) {
            auto* out =
                reinterpret_cast<float*>(static_cast<char*>(dst->data) + static_cast<size_t>(b) * dst->nb[2]);
            group.attend(b - first, out, dst->nb[1] / sizeof(float));
          }
        }
        first += n;
      }
    }
  }
};

void clear_padding(const StepAttention& s, ggml_tensor* dst) {
  const AttentionSpan& last = s.spans.back();
  for (int64_t t = last.column + last.n_new; t < dst->ne[1]; ++t)
    std::fill_n(column(dst, t), dst->ne[0], 0.0f);
}

// Several new tokens: a few of them and one KV head at a time, over all blocks in order. src: q, the stored
// rows.
struct ExtendGroups {
  static constexpr int64_t kTokens = 4;
  const StepAttention& s;
  AttentionLayer layer;

  struct Results {
    float *acc, *part;  // [n_q][d_v + 2]
  };
  static Results lay_out(Scratch& scratch, int64_t n_q, int64_t d_v) {
    float* acc = scratch.take<float>(n_q * (d_v + 2));
    return {acc, scratch.take<float>(n_q * (d_v + 2))};
  }

  static size_t scratch_bytes(const CacheShape& shape, int64_t n_group) {
    return Scratch::measure([&](Scratch& scratch) {
      lay_out(scratch, kTokens * n_group, shape.d_head_v);
      GroupQueries::reserve(scratch, shape, kTokens * n_group);
    });
  }

  void operator()(ggml_tensor* dst, const OpThread& thread) const {
    int64_t first = 0;  // the span's first unit, among all
    for (const AttentionSpan& span : s.spans) {
      const int64_t n_head_kv = span.cache->shape(layer.il).n_head_kv;
      const int64_t n_units = n_head_kv * ((span.n_new + kTokens - 1) / kTokens);
      int64_t unit = (thread.ith - first % thread.nth + thread.nth) % thread.nth;
      for (; unit < n_units; unit += thread.nth)
        attend(dst, span, unit % n_head_kv, unit / n_head_kv * kTokens, thread);
      first += n_units;
    }
    if (thread.ith == 0) clear_padding(s, dst);
  }

  void attend(ggml_tensor* dst, const AttentionSpan& span, int64_t head, int64_t first_token,
              const OpThread& thread) const {
    const int64_t d_v = span.cache->shape(layer.il).d_head_v, width = d_v + 2;
    Scratch scratch(thread.scratch);
    const Results results = lay_out(scratch, kTokens * layer.n_group, d_v);
    GroupQueries group(layer, span, dst->src[0], head, first_token,
                       std::min(kTokens, span.n_new - first_token), scratch);
    start_fold(results.acc, group.n_q(), width);
    for (int64_t b = 0; b < group.n_all(); ++b) {
      group.attend(b, results.part, static_cast<size_t>(width));
      for (int64_t i = 0; i < group.n_q(); ++i) {
        fold_block(results.acc + i * width, results.part + i * width, d_v);
        if (b + 1 == group.n_packed()) turn_back(results.acc + i * width, d_v);
      }
    }
    for (int64_t i = 0; i < group.n_q(); ++i) {
      float* out = column(dst, span.column + first_token + i / layer.n_group);
      finish_blocks(results.acc + i * width, out + (head * layer.n_group + i % layer.n_group) * d_v, d_v);
    }
  }
};

// Decoding, second op. src: q, the stored rows, the blocks; dst: F32 [d_v * n_head, n_padded]. Whether the
// spans are of one token each is seen when it runs, so that one graph serves drafts and single tokens.
struct DecodeFold {
  const StepAttention& s;
  AttentionLayer layer;

  static size_t scratch_bytes(const CacheShape& shape, int64_t n_group) {
    return std::max(ExtendGroups::scratch_bytes(shape, n_group),
                    static_cast<size_t>(shape.d_head_v + 2) * sizeof(float));
  }

  void operator()(ggml_tensor* dst, const OpThread& thread) const {
    if (!s.decoding) return ExtendGroups{s, layer}(dst, thread);
    const ggml_tensor* blocks = dst->src[2];
    const int64_t d_v = blocks->ne[0] - 2, n_head = dst->ne[0] / d_v;
    const Slice mine = slice_of(n_head * std::ssize(s.spans), thread);
    auto* acc = reinterpret_cast<float*>(thread.scratch);
    int64_t first = 0, i = 0;  // the head's first block and its number, among all
    for (const AttentionSpan& span : s.spans) {
      for (int64_t head = 0; head < n_head; ++head, ++i) {
        const int64_t n = n_blocks(*span.cache, layer.il, head / layer.n_group, 1);
        if (i >= mine.begin && i < mine.end) {
          const int64_t n_packed = n_packed_blocks(*span.cache, layer.il, head / layer.n_group);
          start_fold(acc, 1, d_v + 2);
          for (int64_t b = first; b < first + n; ++b) {
            const char* part = static_cast<const char*>(blocks->data) +
                               static_cast<size_t>(b) * blocks->nb[2] +
                               static_cast<size_t>(head % layer.n_group) * blocks->nb[1];
            fold_block(acc, reinterpret_cast<const float*>(part), d_v);
            if (b + 1 == first + n_packed) turn_back(acc, d_v);
          }
          finish_blocks(acc, column(dst, span.column) + head * d_v, d_v);
        }
        if ((head + 1) % layer.n_group == 0) first += n;
      }
    }
    if (thread.ith == 0) clear_padding(s, dst);
  }
};

}  // namespace

int64_t n_attention_blocks(const StepAttention& step, int64_t il) {
  int64_t n = 0;
  for (const AttentionSpan& span : step.spans) {
    for (int64_t h = 0; h < span.cache->shape(il).n_head_kv; ++h) n += n_blocks(*span.cache, il, h, 1);
  }
  return n;
}

ggml_tensor* ragged_attention_cpu(Compute& compute, const StepAttention* step, const AttentionLayer& layer,
                                  int64_t most_blocks, ggml_tensor* q, ggml_tensor* k, ggml_tensor* v) {
  const StepAttention& s = *step;
  const CacheShape& shape = s.spans[0].cache->shape(layer.il);
  const int64_t n_out = shape.d_head_v * q->ne[1];
  ggml_tensor* fresh[] = {k, v};
  ggml_tensor* stored = compute.custom<StoreRows>(GGML_TYPE_F32, {1, 1, 1, 1}, fresh, 0, s, layer.il);
  ggml_tensor* args[] = {q, stored};
  if (most_blocks == 0) {
    return compute.custom<ExtendGroups>(GGML_TYPE_F32, {n_out, q->ne[2], 1, 1}, args,
                                        ExtendGroups::scratch_bytes(shape, layer.n_group), s, layer);
  }
  ggml_tensor* blocks =
      compute.custom<DecodeBlocks>(GGML_TYPE_F32, {shape.d_head_v + 2, layer.n_group, most_blocks, 1}, args,
                                   DecodeBlocks::scratch_bytes(shape, layer.n_group), s, layer);
  ggml_tensor* all[] = {q, stored, blocks};
  return compute.custom<DecodeFold>(GGML_TYPE_F32, {n_out, q->ne[2], 1, 1}, all,
                                    DecodeFold::scratch_bytes(shape, layer.n_group), s, layer);
}

}  // namespace curdkv
