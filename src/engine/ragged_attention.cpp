#include "engine/ragged_attention.h"

#include <algorithm>
#include <limits>

#include "engine/attention_kernel.h"

namespace curdkv {
namespace {

int64_t n_blocks(int64_t n_rows) {
  return (n_rows + kBlockRows - 1) / kBlockRows;
}

// The slice of [0, n) that thread ith of nth works on.
struct Slice {
  int64_t begin, end;
};
Slice slice_of(int64_t n, int ith, int nth) {
  return {n * ith / nth, n * (ith + 1) / nth};
}

const char* row(const ggml_tensor* rows, int64_t i) {
  return static_cast<const char*>(rows->data) + static_cast<size_t>(i) * rows->nb[1];
}

// Queries of one KV head's group and a few consecutive tokens, scaled, and the partial results over blocks.
// Works in memory that it is given.
class GroupQueries {
 public:
  static void reserve(Scratch& scratch, int64_t n_q, int64_t d_k, int64_t d_v) {
    lay_out(scratch, n_q, d_k, d_v);
  }

  GroupQueries(const RaggedAttention& s, const ggml_tensor* q, int64_t d_v, int64_t head, int64_t first_token,
               int64_t n_tokens, Scratch& scratch)
      : s_(s),
        head_(head),
        first_(first_token),
        n_q_(s.n_group * n_tokens),
        d_k_(q->ne[0]),
        arrays_(lay_out(scratch, n_q_, d_k_, d_v)) {
    for (int64_t i = 0; i < n_q_; ++i) {
      const char* from = static_cast<const char*>(q->data) +
                         static_cast<size_t>(head * s.n_group + i % s.n_group) * q->nb[1] +
                         static_cast<size_t>(first_ + i / s.n_group) * q->nb[2];
      float* to = arrays_.scaled + i * d_k_;
      for (int64_t d = 0; d < d_k_; ++d) to[d] = reinterpret_cast<const float*>(from)[d] * s.scale;
    }
  }

  int64_t n_q() const { return n_q_; }
  int64_t n_rows() const { return s_.layer->length[static_cast<size_t>(head_)] + first_ + n_q_ / s_.n_group; }

  // Attends to block `index` of the head's rows; see attend_block() for the results.
  void attend(const ggml_tensor* k, const ggml_tensor* v, int64_t index, float* out, size_t out_stride) {
    const int64_t first_row = index * kBlockRows;
    const int64_t n = std::min(kBlockRows, n_rows() - first_row);
    const auto h = static_cast<size_t>(head_);
    for (int64_t i = 0; i < n_q_; ++i) {
      const int64_t sees = s_.layer->length[h] + first_ + i / s_.n_group + 1 - first_row;
      arrays_.visible[i] = std::clamp<int64_t>(sees, 0, n);
    }
    const int64_t at = s_.layer->offset[h] + first_row;
    attend_block({arrays_.scaled, arrays_.visible, n_q_, row(k, at), row(v, at), k->nb[1], v->nb[1], k->type,
                  v->type, n, d_k_, v->ne[0]},
                 out, out_stride, arrays_.attention);
  }

 private:
  struct Arrays {
    float* scaled;     // [n_q][d_k]
    float* attention;  // attend_block()'s own
    int64_t* visible;  // [n_q]
  };
  static Arrays lay_out(Scratch& scratch, int64_t n_q, int64_t d_k, int64_t d_v) {
    Arrays a = {};
    a.scaled = scratch.take<float>(n_q * d_k);
    a.attention = scratch.take<float>(static_cast<int64_t>(attention_scratch_floats(n_q, d_k, d_v)));
    a.visible = scratch.take<int64_t>(n_q);
    return a;
  }

  const RaggedAttention& s_;
  int64_t head_, first_, n_q_, d_k_;
  Arrays arrays_;
};

// Results of so many queries over no block yet.
void start_fold(float* acc, int64_t n_q, int64_t width) {
  std::fill_n(acc, n_q * width, 0.0f);
  for (int64_t i = 0; i < n_q; ++i) acc[i * width] = -std::numeric_limits<float>::infinity();
}

// Decoding, first op. dst: F32 [d_v + 2, n_group, blocks of all heads]; the blocks are shared out evenly.
struct DecodeBlocks {
  const RaggedAttention& s;

  static size_t scratch_bytes(const RaggedAttention& s, int64_t d_k, int64_t d_v) {
    Scratch scratch;
    GroupQueries::reserve(scratch, s.n_group, d_k, d_v);
    return scratch.n_bytes();
  }

  void operator()(ggml_tensor* dst, const OpThread& thread) {
    const ggml_tensor *q = dst->src[0], *k = dst->src[1], *v = dst->src[2];
    const auto n_head_kv = static_cast<int64_t>(s.layer->length.size());
    int64_t total = 0;
    for (int64_t length : s.layer->length) total += n_blocks(length + 1);
    const Slice mine = slice_of(total, thread.ith, thread.nth);
    int64_t first = 0;  // block 0 of head h, among all
    for (int64_t h = 0; h < n_head_kv; ++h) {
      const int64_t n = n_blocks(s.layer->length[static_cast<size_t>(h)] + 1);
      const int64_t begin = std::max(mine.begin, first), end = std::min(mine.end, first + n);
      if (begin < end) {
        Scratch scratch(thread.scratch);
        GroupQueries group(s, q, v->ne[0], h, 0, 1, scratch);
        for (int64_t b = begin; b < end; ++b) {
          auto* out =
              reinterpret_cast<float*>(static_cast<char*>(dst->data) + static_cast<size_t>(b) * dst->nb[2]);
          group.attend(k, v, b - first, out, dst->nb[1] / sizeof(float));
        }
      }
      first += n;
    }
  }
};

// Decoding, second op. src[0]: the blocks; dst: F32 [d_v * n_head, n_padded].
struct DecodeFold {
  const RaggedAttention& s;

  static size_t scratch_bytes(int64_t d_v) { return static_cast<size_t>(d_v + 2) * sizeof(float); }

  void operator()(ggml_tensor* dst, const OpThread& thread) {
    const ggml_tensor* blocks = dst->src[0];
    const int64_t d_v = blocks->ne[0] - 2;
    const auto n_head = static_cast<int64_t>(s.layer->length.size()) * s.n_group;
    const Slice mine = slice_of(n_head, thread.ith, thread.nth);
    auto* acc = reinterpret_cast<float*>(thread.scratch);
    int64_t first = 0;
    for (int64_t head = 0; head < n_head; ++head) {
      const int64_t n = n_blocks(s.layer->length[static_cast<size_t>(head / s.n_group)] + 1);
      if (head >= mine.begin && head < mine.end) {
        start_fold(acc, 1, d_v + 2);
        for (int64_t b = first; b < first + n; ++b) {
          const char* part = static_cast<const char*>(blocks->data) + static_cast<size_t>(b) * blocks->nb[2] +
                             static_cast<size_t>(head % s.n_group) * blocks->nb[1];
          fold_block(acc, reinterpret_cast<const float*>(part), d_v);
        }
        finish_blocks(acc, static_cast<float*>(dst->data) + head * d_v, d_v);
      }
      if ((head + 1) % s.n_group == 0) first += n;
    }
  }
};

// Several new tokens: a few of them and one KV head at a time, over all blocks in order.
struct ExtendGroups {
  static constexpr int64_t kTokens = 4;
  const RaggedAttention& s;

  struct Results {
    float *acc, *part;  // [n_q][d_v + 2]
  };
  static Results lay_out(Scratch& scratch, int64_t n_q, int64_t d_v) {
    float* acc = scratch.take<float>(n_q * (d_v + 2));
    return {acc, scratch.take<float>(n_q * (d_v + 2))};
  }

  static size_t scratch_bytes(const RaggedAttention& s, int64_t d_k, int64_t d_v) {
    Scratch scratch;
    lay_out(scratch, kTokens * s.n_group, d_v);
    GroupQueries::reserve(scratch, kTokens * s.n_group, d_k, d_v);
    return scratch.n_bytes();
  }

  void operator()(ggml_tensor* dst, const OpThread& thread) {
    const ggml_tensor *q = dst->src[0], *k = dst->src[1], *v = dst->src[2];
    const int64_t d_v = v->ne[0], width = d_v + 2;
    const int64_t n_tiles = (s.n_new + kTokens - 1) / kTokens;
    const auto n_head_kv = static_cast<int64_t>(s.layer->length.size());
    for (int64_t unit = thread.ith; unit < n_head_kv * n_tiles; unit += thread.nth) {
      const int64_t h = unit % n_head_kv, first = unit / n_head_kv * kTokens;
      Scratch scratch(thread.scratch);
      const Results results = lay_out(scratch, kTokens * s.n_group, d_v);
      GroupQueries group(s, q, d_v, h, first, std::min(kTokens, s.n_new - first), scratch);
      start_fold(results.acc, group.n_q(), width);
      for (int64_t b = 0; b < n_blocks(group.n_rows()); ++b) {
        group.attend(k, v, b, results.part, static_cast<size_t>(width));
        for (int64_t i = 0; i < group.n_q(); ++i)
          fold_block(results.acc + i * width, results.part + i * width, d_v);
      }
      for (int64_t i = 0; i < group.n_q(); ++i) {
        float* out = reinterpret_cast<float*>(static_cast<char*>(dst->data) +
                                              static_cast<size_t>(first + i / s.n_group) * dst->nb[1]) +
                     (h * s.n_group + i % s.n_group) * d_v;
        finish_blocks(results.acc + i * width, out, d_v);
      }
    }
    if (thread.ith == 0) {
      for (int64_t t = s.n_new; t < dst->ne[1]; ++t) {
        auto* out =
            reinterpret_cast<float*>(static_cast<char*>(dst->data) + static_cast<size_t>(t) * dst->nb[1]);
        std::fill_n(out, dst->ne[0], 0.0f);
      }
    }
  }
};

}  // namespace

ggml_tensor* ragged_attention_cpu(Compute& compute, const RaggedAttention* state, ggml_tensor* q,
                                  ggml_tensor* k, ggml_tensor* v) {
  const RaggedAttention& s = *state;
  const int64_t d_k = q->ne[0], d_v = v->ne[0], n_head = q->ne[1];
  ggml_tensor* args[] = {q, k, v};
  if (s.n_new > 1 || q->ne[2] > 1) {
    return compute.custom<ExtendGroups>(GGML_TYPE_F32, {d_v * n_head, q->ne[2], 1, 1}, args,
                                        ExtendGroups::scratch_bytes(s, d_k, d_v), s);
  }
  int64_t most = 0;  // blocks there can be before the layer must move
  for (int64_t capacity : s.layer->capacity) most += n_blocks(capacity);
  ggml_tensor* blocks[] = {compute.custom<DecodeBlocks>(GGML_TYPE_F32, {d_v + 2, s.n_group, most, 1}, args,
                                                        DecodeBlocks::scratch_bytes(s, d_k, d_v), s)};
  return compute.custom<DecodeFold>(GGML_TYPE_F32, {d_v * n_head, 1, 1, 1}, blocks,
                                    DecodeFold::scratch_bytes(d_v), s);
}

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

ggml_tensor* ragged_attention_portable(ggml_context* ctx, const RaggedAttention& s, ggml_tensor* q,
                                       ggml_tensor* k, ggml_tensor* v, ggml_tensor* mask_data,
                                       const RaggedMask& mask) {
  const RaggedLayer& l = *s.layer;
  const auto n_head_kv = static_cast<int64_t>(l.length.size());
  const int64_t d_v = v->ne[0];
  ggml_tensor* out = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, d_v, q->ne[1], q->ne[2]);
  out = ggml_fill_inplace(ctx, out, 0.0f);
  for (int64_t h = 0; h < n_head_kv;) {
    // A run of heads with equal lengths and room is one strided view.
    int64_t n = 1;
    const auto i = static_cast<size_t>(h);
    while (h + n < n_head_kv && l.length[i + n] == l.length[i] && l.capacity[i + n] == l.capacity[i]) ++n;
    const int64_t n_rows = l.length[i] + s.n_new;
    const auto view = [&](ggml_tensor* rows) {
      return ggml_view_3d(ctx, rows, rows->ne[0], n_rows, n, rows->nb[1],
                          static_cast<size_t>(l.capacity[i]) * rows->nb[1],
                          static_cast<size_t>(l.offset[i]) * rows->nb[1]);
    };
    ggml_tensor* queries = ggml_view_3d(ctx, q, q->ne[0], n * s.n_group, s.n_new, q->nb[1], q->nb[2],
                                        static_cast<size_t>(h * s.n_group) * q->nb[1]);
    // One token sees every row.
    ggml_tensor* seen = mask_data == nullptr ? nullptr : mask.copy(ctx, mask_data, l.length[i], s.n_new);
    ggml_tensor* part = ggml_flash_attn_ext(ctx, ggml_permute(ctx, queries, 0, 2, 1, 3), view(k), view(v),
                                            seen, s.scale, 0.0f, 0.0f);
    ggml_prec_set_acc(part, GGML_PREC_F32);
    // F32 [d_v, heads of the run, n_new]
    out = ggml_set_inplace(ctx, out, part, out->nb[1], out->nb[2], out->nb[3],
                           static_cast<size_t>(h * s.n_group) * out->nb[1]);
    h += n;
  }
  return ggml_reshape_2d(ctx, out, d_v * q->ne[1], q->ne[2]);
}

}  // namespace curdkv
