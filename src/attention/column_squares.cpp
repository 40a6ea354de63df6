// Squared weights of reference queries on every row of a layer: the keys are packed in 8 bits first.
#include <ggml-cpu.h>

#include <algorithm>

#include "attention/packed_kernel.h"
#include "attention/score_ops.h"
#include "base/tickets.h"

namespace curdkv {
namespace {

constexpr int64_t kParts = kColumnSquaresParts;

// src: k. dst: F16 [padded_row(d), heads], the mean keys, turned. A head at a time.
struct MeanKeys {
  Tickets heads = {};

  void operator()(ggml_tensor* dst, const OpThread& thread) {
    const ggml_tensor* k = dst->src[0];
    for (int64_t h; (h = heads.draw(k->ne[2], thread.nth)) >= 0;) {
      char* mean = static_cast<char*>(dst->data) + static_cast<size_t>(h) * dst->nb[1];
      turned_mean(k->type, row_of(k, h, 0), k->nb[1], k->ne[1], k->ne[0],
                  reinterpret_cast<ggml_fp16_t*>(mean));
    }
  }
};

PackedRows rows_of(const ggml_tensor* packed, const ggml_tensor* mean, const ggml_tensor* k, int64_t head) {
  const auto at = [&](const ggml_tensor* x) {
    return static_cast<char*>(x->data) + static_cast<size_t>(head) * x->nb[1];
  };
  return {RowType::q8, k->ne[0], k->ne[1], at(packed), reinterpret_cast<ggml_fp16_t*>(at(mean))};
}

// src: k, the means. dst: I8 [bytes, heads]. Some groups of a head at a time.
struct PackKeys {
  static constexpr int64_t kRows = 16 * kRowsTogether;
  Tickets pieces = {};

  struct Row {
    float *x, *mean;
    char* encoded;  // of these x and encoded hold kRowsTogether
  };
  static Row lay_out(Scratch& scratch, int64_t d) {
    float *x = scratch.take<float>(kRowsTogether * d), *mean = scratch.take<float>(d);
    return {x, mean, scratch.take<char>(kRowsTogether * encoded_row_bytes(RowType::q8, d))};
  }

  void operator()(ggml_tensor* dst, const OpThread& thread) {
    const ggml_tensor *k = dst->src[0], *means = dst->src[1];
    const int64_t n_head = k->ne[2], n_pieces = (k->ne[1] + kRows - 1) / kRows * n_head;
    for (int64_t i; (i = pieces.draw(n_pieces, thread.nth)) >= 0;) {
      Scratch scratch(thread.scratch);
      const Row row = lay_out(scratch, k->ne[0]);
      const PackedRows to = rows_of(dst, means, k, i % n_head);
      ggml_cpu_fp16_to_fp32(to.mean, row.mean, to.d);
      const int64_t first = i / n_head * kRows, end = std::min(k->ne[1], first + kRows);
      for (int64_t at = first; at < end; at += kRowsTogether) {
        const char* encoded[kRowsTogether];
        const int64_t n = std::min(kRowsTogether, end - at);
        for (int64_t r = 0; r < n; ++r) {
          widen_row(k->type, row_of(k, i % n_head, at + r), to.d, row.x + r * to.d);
          encoded[r] = row.encoded + r * encoded_row_bytes(to.type, to.d);
        }
        turn_and_centre_rows(row.x, n, to.d, row.mean);
        encode_rows(to.type, row.x, n, to.d, row.encoded);
        put_keys(to, at, std::span(encoded).first(static_cast<size_t>(n)));
      }
    }
  }
};

// src: q, their tokens, k, the means, the packed keys. dst: F32 [whole blocks of n, and one, heads, kParts].
struct SquareWeights {
  float scale;  // to base 2
  std::span<const float> shares;
  Tickets pieces = {};

  struct Arrays {
    float *q, *scratch;
    PackedQueries packed;
  };
  static Arrays lay_out(Scratch& scratch, int64_t n, int64_t d, int64_t n_queries) {
    Arrays a = {};
    a.q = scratch.take<float>(kMostQueries * d);
    a.scratch = scratch.take<float>(squared_weights_floats(n));
    a.packed = PackedQueries::lay_out(scratch, n_queries, d);
    return a;
  }

  void operator()(ggml_tensor* dst, const OpThread& thread) {
    const ggml_tensor *q = dst->src[0], *k = dst->src[2];
    const auto* tokens = static_cast<const float*>(dst->src[1]->data);
    const int64_t d = k->ne[0], n_head = k->ne[2];
    for (int64_t i; (i = pieces.draw(n_head * kParts, thread.nth)) >= 0;) {
      const int64_t h = i % n_head, part = i / n_head;
      float* squares = static_cast<float*>(dst->data) + (part * n_head + h) * dst->ne[0];
      std::fill_n(squares, dst->ne[0], 0.0f);
      for (int64_t at = part * kMostQueries; at < q->ne[1]; at += kParts * kMostQueries) {
        const int64_t m = std::min<int64_t>(kMostQueries, q->ne[1] - at);
        Scratch scratch(thread.scratch);
        const Arrays a = lay_out(scratch, k->ne[1], d, m);
        const float* from = static_cast<const float*>(q->data) + (h * q->ne[1] + at) * d;
        for (int64_t j = 0; j < m * d; ++j) a.q[j] = from[j] * scale;
        a.packed.set(a.q, d, true);
        squares[dst->ne[0] - 1] += add_squared_weights(a.packed, rows_of(dst->src[4], dst->src[3], k, h),
                                                       tokens + at, shares, a.scratch, squares);
      }
    }
  }
};

template <typename Op, typename... N>
size_t scratch_of(N... n) {
  return Scratch::measure([&](Scratch& scratch) { Op::lay_out(scratch, n...); });
}

}  // namespace

ggml_tensor* column_squares_cpu(Compute& compute, ggml_tensor* q, ggml_tensor* tokens, ggml_tensor* k,
                                float scale, std::span<const float> shares) {
  const int64_t d = k->ne[0], n = k->ne[1], n_head = k->ne[2];
  ggml_tensor* keys[] = {k};
  ggml_tensor* means = compute.custom<MeanKeys>(GGML_TYPE_F16, {padded_row(d), n_head, 1, 1}, keys, 0);
  const int64_t n_bytes = (packed_key_bytes(RowType::q8, d, n) + kPackedSlack + 63) / 64 * 64;
  ggml_tensor* both[] = {k, means};
  ggml_tensor* packed =
      compute.custom<PackKeys>(GGML_TYPE_I8, {n_bytes, n_head, 1, 1}, both, scratch_of<PackKeys>(d));
  ggml_tensor* all[] = {q, tokens, k, means, packed};
  return compute.custom<SquareWeights>(GGML_TYPE_F32, {n_blocks_of(n) * kBlockRows + 1, n_head, kParts, 1},
                                       all, scratch_of<SquareWeights>(n, d, kMostQueries),
                                       scale * 1.44269504f, shares);
}

}  // namespace curdkv
