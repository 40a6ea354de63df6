#include "engine/row_packing.h"

#include <ggml-cpu.h>

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/tickets.h"
#include "base/try.h"

namespace curdkv {
namespace {

constexpr RowType kFewestBitsFirst[] = {RowType::q3, RowType::q4, RowType::q5, RowType::q8, RowType::f16};
constexpr int64_t kMostReferences = 128;  // queries
constexpr int64_t kSampledKeys = 512;

// Row of token t of a head, of those read.
void read_row(const ggml_tensor* x, const LayerKv& kv, int64_t head, int64_t t, float* to) {
  const char* from = static_cast<const char*>(x->data) + static_cast<size_t>(kv.n_held + t) * x->nb[2] +
                     static_cast<size_t>(head) * x->nb[1];
  widen_row(x->type, from, x->ne[0], to);
}

std::vector<ggml_fp16_t> mean_row(const ggml_tensor* x, const LayerKv& kv, int64_t head, int64_t n_tokens) {
  const int64_t d = x->ne[0];
  std::vector<float> row(static_cast<size_t>(d));
  std::vector<double> sum(static_cast<size_t>(d), 0.0);
  for (int64_t t = 0; t < n_tokens; ++t) {
    read_row(x, kv, head, t, row.data());
    std::transform(sum.begin(), sum.end(), row.begin(), sum.begin(), std::plus<>());
  }
  for (int64_t i = 0; i < d; ++i)
    row[static_cast<size_t>(i)] =
        static_cast<float>(sum[static_cast<size_t>(i)] / static_cast<double>(n_tokens));
  turn_row(row.data(), d);
  std::vector<ggml_fp16_t> mean(static_cast<size_t>(padded_row(d)), 0);
  ggml_fp32_to_fp16_row(row.data(), mean.data(), d);
  return mean;
}

std::vector<float> widened(const std::vector<ggml_fp16_t>& mean) {
  std::vector<float> x(mean.size());
  ggml_cpu_fp16_to_fp32(mean.data(), x.data(), std::ssize(mean));
  return x;
}

// The row, turned and centred.
void centred_row(const ggml_tensor* x, const LayerKv& kv, int64_t head, int64_t t,
                 const std::vector<float>& mean, float* to) {
  read_row(x, kv, head, t, to);
  turn_row(to, x->ne[0]);
  for (int64_t i = 0; i < x->ne[0]; ++i) to[i] -= mean[static_cast<size_t>(i)];
}

// Runs an operation that works on `n_pieces` pieces; op(piece).
template <typename Op>
struct Pieces {
  int64_t n_pieces;
  const Op& op;
  Tickets tickets = {};
  void operator()(ggml_tensor*, const OpThread& thread) {
    for (int64_t i; (i = tickets.draw(n_pieces, thread.nth)) >= 0;) op(i);
  }
};
template <typename Op>
Result<void> run_pieces(Compute& compute, int64_t n_pieces, const Op& op) {
  CURDKV_TRY([[maybe_unused]] ggml_context * ctx, compute.begin());
  ggml_build_forward_expand(compute.graph(),
                            compute.custom<Pieces<Op>>(GGML_TYPE_F32, {1, 1, 1, 1}, {}, 0, n_pieces, op));
  CURDKV_CHECK(compute.allocate());
  return compute.run();
}

// Rows of F32.
using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// The error of logits, root mean square, with keys [n, d] of a type. gram: Q^T Q / n of the queries.
double logit_error(RowType type, const Rows& keys, const Rows& gram) {
  std::vector<char> row(static_cast<size_t>(encoded_row_bytes(type, keys.cols())));
  Rows error(keys.rows(), keys.cols());
  for (Eigen::Index k = 0; k < keys.rows(); ++k) {
    encode_row(type, keys.row(k).data(), keys.cols(), row.data());
    decode_row(type, row.data(), keys.cols(), error.row(k).data());
  }
  error -= keys;
  const double squares = (error * gram).cwiseProduct(error).cast<double>().sum();
  return std::sqrt(std::max(0.0, squares) / static_cast<double>(keys.rows()));
}

// Of some of a head's references, turned and scaled.
Rows gram_of_references(const ReferenceQueries& all, int64_t head, int64_t d, float scale) {
  const int64_t n = std::min(kMostReferences, all.n);
  Rows some(n, d);
  for (int64_t i = 0; i < n; ++i) {
    std::copy_n(all.q.begin() + (head * all.n + i * all.n / n) * d, d, some.row(i).data());
    turn_row(some.row(i).data(), d);
  }
  return some.transpose() * some * (scale * scale / static_cast<float>(n));
}

RowType fewest_bits(const LayerKv& kv, int64_t head, int64_t n_tokens, const std::vector<float>& mean,
                    const Rows& gram, double most_error) {
  const int64_t n = std::min(kSampledKeys, n_tokens);
  Rows keys(n, kv.k->ne[0]);
  for (int64_t i = 0; i < n; ++i) centred_row(kv.k, kv, head, i * n_tokens / n, mean, keys.row(i).data());
  for (const RowType type : kFewestBitsFirst) {
    if (logit_error(type, keys, gram) <= most_error) return type;
  }
  return RowType::f16;
}

}  // namespace

void EncodedHead::cut(const CacheShape& shape, int64_t n) {
  if (n >= std::ssize(tokens)) return;
  tokens.resize(static_cast<size_t>(n));
  rows.cut(static_cast<size_t>(n * row_bytes(shape)));
}

Result<std::vector<EncodedHead>> choose_types(Compute& compute, const LayerKv& kv, const CacheShape& shape,
                                              int64_t n_tokens, const WantedTypes& wanted,
                                              const ReferenceQueries& references, float kq_scale) {
  std::vector<EncodedHead> heads(static_cast<size_t>(shape.n_head_kv));
  const auto choose = [&](int64_t i) {
    EncodedHead& head = heads[static_cast<size_t>(i / 2)];
    if (i % 2 == 1) {
      head.mean_v = mean_row(kv.v, kv, i / 2, n_tokens);
      head.type_v = wanted.v == RowType::cache ? RowType::f16 : wanted.v;
      return;
    }
    head.mean_k = mean_row(kv.k, kv, i / 2, n_tokens);
    head.type_k = wanted.k == RowType::cache ? RowType::f16 : wanted.k;
    if (wanted.k != RowType::automatic) return;
    const Rows gram = gram_of_references(references, i / 2, shape.d_head_k, kq_scale);
    head.type_k = fewest_bits(kv, i / 2, n_tokens, widened(head.mean_k), gram, wanted.key_error);
  };
  CURDKV_CHECK(run_pieces(compute, 2 * shape.n_head_kv, choose));
  return heads;
}

Result<void> encode_rows(Compute& compute, const LayerKv& kv, const CacheShape& shape,
                         std::vector<EncodedHead>& heads) {
  constexpr int64_t kRows = 256;  // in a piece
  std::vector<int64_t> first_piece = {0};
  for (EncodedHead& head : heads) {
    const int64_t n = std::ssize(head.tokens);
    CURDKV_TRY(head.rows,
               Pages::allocate(static_cast<size_t>(n * head.row_bytes(shape)), "encoded cache rows"));
    first_piece.push_back(first_piece.back() + (n + kRows - 1) / kRows);
  }
  return run_pieces(compute, first_piece.back(), [&](int64_t i) {
    const auto h = std::upper_bound(first_piece.begin(), first_piece.end(), i) - first_piece.begin() - 1;
    const EncodedHead& head = heads[static_cast<size_t>(h)];
    const int64_t first = (i - first_piece[static_cast<size_t>(h)]) * kRows;
    const int64_t end = std::min(std::ssize(head.tokens), first + kRows), bytes = head.row_bytes(shape);
    std::vector<float> x(static_cast<size_t>(std::max(shape.d_head_k, shape.d_head_v)));
    const std::vector<float> mean_k = widened(head.mean_k), mean_v = widened(head.mean_v);
    for (int64_t r = first; r < end; ++r) {
      const int32_t t = head.tokens[static_cast<size_t>(r)];
      char* to = head.rows.data() + r * bytes;
      centred_row(kv.k, kv, h, t, mean_k, x.data());
      encode_row(head.type_k, x.data(), shape.d_head_k, to);
      centred_row(kv.v, kv, h, t, mean_v, x.data());
      encode_row(head.type_v, x.data(), shape.d_head_v, to + head.key_bytes(shape));
    }
  });
}

Result<KvLayer> lay_out_rows(Compute& compute, const CacheShape& shape, int64_t il,
                             std::span<const EncodedHead> heads, int64_t first_position) {
  std::vector<KvLayer::PackedLength> lengths;
  for (const EncodedHead& head : heads)
    lengths.push_back({head.type_k, head.type_v, std::ssize(head.tokens)});
  CURDKV_TRY(KvLayer layer, KvLayer::allocate_packed(shape, il, lengths));
  CURDKV_CHECK(run_pieces(compute, 2 * std::ssize(heads), [&](int64_t i) {
    const auto h = static_cast<size_t>(i / 2);
    const EncodedHead& head = heads[h];
    const bool keys = i % 2 == 0;
    const PackedRows& to = keys ? layer.packed[h].k : layer.packed[h].v;
    std::copy_n(keys ? head.mean_k.data() : head.mean_v.data(), padded_row(to.d), to.mean);
    std::vector<int32_t> order(head.tokens.size());
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return head.tokens[static_cast<size_t>(a)] < head.tokens[static_cast<size_t>(b)];
    });
    std::vector<int32_t> where;
    for (int64_t r = 0; r < std::ssize(order); ++r) {
      const int32_t from = order[static_cast<size_t>(r)];
      const char* row = head.rows.data() + from * head.row_bytes(shape);
      if (keys) {
        put_key(to, r, row);
        where.push_back(static_cast<int32_t>(first_position + head.tokens[static_cast<size_t>(from)]));
      } else {
        put_value(to, r, row + head.key_bytes(shape));
      }
    }
    if (keys) layer.positions[h] = RowPositions(where);
  }));
  return layer;
}

}  // namespace curdkv
