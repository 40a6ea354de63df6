#include "engine/row_packing.h"

#include <ggml-cpu.h>

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>

#include "attention/gram_kernel.h"
#include "base/scratch.h"
#include "base/try.h"

namespace curdkv {
namespace {

constexpr RowType kFewestBitsFirst[] = {RowType::q3, RowType::q4, RowType::q5, RowType::q8, RowType::f16};
constexpr int64_t kMostReferences = 128;  // queries
constexpr int64_t kSampledKeys = 256;

// Of token t of a head, of those read.
const char* row_at(const ggml_tensor* x, const LayerKv& kv, int64_t head, int64_t t) {
  return static_cast<const char*>(x->data) + static_cast<size_t>(kv.n_held + t) * x->nb[2] +
         static_cast<size_t>(head) * x->nb[1];
}

std::vector<ggml_fp16_t> mean_row(const ggml_tensor* x, const LayerKv& kv, int64_t head, int64_t n_tokens) {
  std::vector<ggml_fp16_t> mean(static_cast<size_t>(padded_row(x->ne[0])));
  turned_mean(x->type, row_at(x, kv, head, 0), x->nb[2], n_tokens, x->ne[0], mean.data());
  return mean;
}

std::vector<float> widened(const std::vector<ggml_fp16_t>& mean) {
  std::vector<float> x(mean.size());
  ggml_cpu_fp16_to_fp32(mean.data(), x.data(), std::ssize(mean));
  return x;
}

// Rows of n tokens, turned and centred: F32 [d, n].
void centred_rows(const ggml_tensor* x, const LayerKv& kv, int64_t head, std::span<const int32_t> tokens,
                  const std::vector<float>& mean, float* to) {
  const int64_t d = x->ne[0], n = std::ssize(tokens);
  for (int64_t r = 0; r < n; ++r)
    widen_row(x->type, row_at(x, kv, head, tokens[static_cast<size_t>(r)]), d, to + r * d);
  turn_and_centre_rows(to, n, d, mean.data());
}

// Rows of F32.
using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// The error of logits, root mean square, with keys [n, d] of a type. queries: scaled by 1 / sqrt(their
// number).
double logit_error(RowType type, const Rows& keys, const Rows& queries) {
  const int64_t n = keys.rows(), d = keys.cols(), bytes = encoded_row_bytes(type, d);
  std::vector<char> rows(static_cast<size_t>(n * bytes));
  encode_rows(type, keys.data(), n, d, rows.data());
  Rows error(n, d);
  for (int64_t k = 0; k < n; ++k) decode_row(type, rows.data() + k * bytes, d, error.row(k).data());
  error -= keys;
  const RowsOf of_error = {reinterpret_cast<const char*>(error.data()),
                           static_cast<size_t>(d) * sizeof(float), GGML_TYPE_F32, n, d};
  std::vector<float> squares(static_cast<size_t>(n));
  size_t room = norms_scratch_bytes(d, queries.rows()) + Scratch::kAlignment;
  std::vector<char> memory(room);
  void* scratch = memory.data();
  std::align(Scratch::kAlignment, 1, scratch, room);
  squared_norms_of(of_error, queries.data(), queries.rows(), squares.data(), static_cast<char*>(scratch));
  return std::sqrt(std::accumulate(squares.begin(), squares.end(), 0.0) / static_cast<double>(n));
}

// Some of a head's references, turned and scaled for logit_error(). They come of its group's heads in turn,
// so that steps between those taken are not all alike.
Rows some_references(const ReferenceQueries& all, int64_t head, int64_t d, float scale) {
  const int64_t n = std::min(kMostReferences, all.n), step = all.n / n;
  Rows some(n, d);
  for (int64_t i = 0; i < n; ++i) {
    const int64_t at = i * all.n / n + i % step;
    std::copy_n(all.q.begin() + (head * all.n + at) * d, d, some.row(i).data());
    turn_row(some.row(i).data(), d);
  }
  return some * (scale / std::sqrt(static_cast<float>(n)));
}

RowType fewest_bits(const LayerKv& kv, int64_t head, int64_t n_tokens, const std::vector<float>& mean,
                    const Rows& queries, double most_error) {
  const int64_t n = std::min(kSampledKeys, n_tokens);
  Rows keys(n, kv.k->ne[0]);
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < n; ++i) tokens.push_back(static_cast<int32_t>(i * n_tokens / n));
  centred_rows(kv.k, kv, head, tokens, mean, keys.data());
  for (const RowType type : kFewestBitsFirst) {
    if (logit_error(type, keys, queries) <= most_error) return type;
  }
  return RowType::f16;
}

// Where each of a head's rows stands among those encoded, in the order of their tokens.
std::vector<int32_t> order_of_tokens(const std::vector<int32_t>& tokens) {
  const auto last = std::max_element(tokens.begin(), tokens.end());
  std::vector<int32_t> row_of(last == tokens.end() ? 0 : static_cast<size_t>(*last) + 1, -1), order;
  for (size_t r = 0; r < tokens.size(); ++r) row_of[static_cast<size_t>(tokens[r])] = static_cast<int32_t>(r);
  std::copy_if(row_of.begin(), row_of.end(), std::back_inserter(order), [](int32_t r) { return r >= 0; });
  return order;
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
    const Rows queries = some_references(references, i / 2, shape.d_head_k, kq_scale);
    head.type_k = fewest_bits(kv, i / 2, n_tokens, widened(head.mean_k), queries, wanted.key_error);
  };
  CURDKV_CHECK(compute.run_pieces(2 * shape.n_head_kv, choose));
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
  return compute.run_pieces(first_piece.back(), [&](int64_t i) {
    const auto h = std::upper_bound(first_piece.begin(), first_piece.end(), i) - first_piece.begin() - 1;
    const EncodedHead& head = heads[static_cast<size_t>(h)];
    const std::span<const int32_t> tokens = head.tokens;
    const int64_t first = (i - first_piece[static_cast<size_t>(h)]) * kRows, bytes = head.row_bytes(shape);
    const int64_t end = std::min(std::ssize(tokens), first + kRows);
    const std::vector<float> mean_k = widened(head.mean_k), mean_v = widened(head.mean_v);
    std::vector<float> x(static_cast<size_t>(kRowsTogether * std::max(shape.d_head_k, shape.d_head_v)));
    std::vector<char> encoded(static_cast<size_t>(kRowsTogether * bytes));
    for (int64_t at = first; at < end; at += kRowsTogether) {
      const int64_t n = std::min(kRowsTogether, end - at);
      const auto some = tokens.subspan(static_cast<size_t>(at), static_cast<size_t>(n));
      char* to = head.rows.data() + at * bytes;
      const auto encode = [&](const ggml_tensor* rows, const std::vector<float>& mean, RowType type,
                              int64_t n_before) {
        const int64_t d = rows->ne[0], n_bytes = encoded_row_bytes(type, d);
        centred_rows(rows, kv, h, some, mean, x.data());
        encode_rows(type, x.data(), n, d, encoded.data());
        for (int64_t r = 0; r < n; ++r)
          std::copy_n(encoded.data() + r * n_bytes, n_bytes, to + r * bytes + n_before);
      };
      encode(kv.k, mean_k, head.type_k, 0);
      encode(kv.v, mean_v, head.type_v, head.key_bytes(shape));
    }
  });
}

Result<KvLayer> lay_out_rows(Compute& compute, const CacheShape& shape, int64_t il,
                             std::span<const EncodedHead> heads, int64_t first_position) {
  constexpr int64_t kRows = 1024;  // in a piece: keys or values
  std::vector<KvLayer::PackedLength> lengths;
  std::vector<std::vector<int32_t>> orders;
  struct Piece {
    size_t head;
    bool keys;
    int64_t first;
  };
  std::vector<Piece> pieces;
  for (size_t h = 0; h < heads.size(); ++h) {
    const EncodedHead& head = heads[h];
    lengths.push_back({head.type_k, head.type_v, std::ssize(head.tokens)});
    orders.push_back(order_of_tokens(head.tokens));
    for (int64_t first = 0; first < std::ssize(head.tokens); first += kRows) {
      for (const bool keys : {true, false}) pieces.push_back({h, keys, first});
    }
  }
  CURDKV_TRY(KvLayer layer, KvLayer::allocate_packed(shape, il, lengths));
  for (size_t h = 0; h < heads.size(); ++h) {
    const EncodedHead& head = heads[h];
    std::copy_n(head.mean_k.data(), padded_row(shape.d_head_k), layer.packed[h].k.mean);
    std::copy_n(head.mean_v.data(), padded_row(shape.d_head_v), layer.packed[h].v.mean);
    std::vector<int32_t> where;
    for (const int32_t r : orders[h])
      where.push_back(static_cast<int32_t>(first_position + head.tokens[static_cast<size_t>(r)]));
    layer.positions[h] = RowPositions(where);
  }
  CURDKV_CHECK(compute.run_pieces(std::ssize(pieces), [&](int64_t i) {
    const auto [h, keys, first] = pieces[static_cast<size_t>(i)];
    const EncodedHead& head = heads[h];
    const int64_t end = std::min(std::ssize(orders[h]), first + kRows), bytes = head.row_bytes(shape);
    const char* rows = head.rows.data() + (keys ? 0 : head.key_bytes(shape));
    for (int64_t at = first; at < end; at += kRowsTogether) {
      const char* together[kRowsTogether];
      const int64_t n = std::min(kRowsTogether, end - at);
      for (int64_t r = 0; r < n; ++r) together[r] = rows + orders[h][static_cast<size_t>(at + r)] * bytes;
      const std::span some(together, static_cast<size_t>(n));
      keys ? put_keys(layer.packed[h].k, at, some) : put_values(layer.packed[h].v, at, some);
    }
  }));
  return layer;
}

}  // namespace curdkv
