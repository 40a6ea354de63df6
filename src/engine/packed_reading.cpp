#include "engine/packed_reading.h"

#include <algorithm>
#include <cmath>

#include "base/format.h"
#include "base/try.h"
#include "press/attention_worth.h"

namespace curdkv {
namespace {

// A row of a head in an F16 cache.
double f16_row_bytes(const CacheShape& shape) {
  return 2.0 * static_cast<double>(shape.d_head_k + shape.d_head_v);
}

constexpr int64_t kTypeReferences = 128;  // queries that keys' types are chosen by, or more

// What "auto" means where so much of an F16 cache's bytes may be kept. Values: the most bits with which so
// many of the rows would find room that more bits would cost more than they tell (measured as KL divergence
// on two models at 0.5 to 0.95). Keys: where all rows of 4 bits find room, logits may be off by less.
WantedTypes wanted_types(const Press& press, double room) {
  WantedTypes wanted = {press.rows_k(), press.rows_v(), press.key_error()};
  const auto fitting = [&](RowType type) {  // of all rows of such keys and values; about, as sizes differ
    constexpr int64_t kAny = 128;
    return room * 2 * static_cast<double>(kAny) / static_cast<double>(encoded_row_bytes(type, kAny));
  };
  if (press.rows_v() == RowType::automatic) {
    if (room > 0.25) wanted.key_error *= std::pow(0.25 / room, 3);
    wanted.v = fitting(RowType::q8) >= 0.95   ? RowType::q8
               : fitting(RowType::q5) >= 0.75 ? RowType::q5
               : fitting(RowType::q4) >= 0.3  ? RowType::q4
                                              : RowType::q3;
  }
  return wanted;
}

}  // namespace

PackedReading::PackedReading(const Press& press, std::span<const CacheShape> shapes, int64_t n_tokens,
                             int64_t n_question, int64_t first_position)
    : press_(press),
      shapes_(shapes),
      n_tokens_(n_tokens),
      n_question_(n_question),
      first_position_(first_position) {
  const ByteShare* share = press.share_of_bytes();
  if (share == nullptr) return;
  int64_t n_heads = 0, most = 0, least = std::numeric_limits<int64_t>::max();
  double fixed = 0;  // bytes that are no rows
  for (const CacheShape& s : shapes) {
    n_heads += s.n_head_kv;
    const auto row = [&](RowType type) {
      return encoded_row_bytes(type, s.d_head_k) + encoded_row_bytes(type, s.d_head_v);
    };
    most = std::max(most, row(RowType::f16));
    least = std::min(least, row(RowType::q3));
    // Means, and padding to whole units and lines: of one row, all but the row.
    const KvLayer::PackedLength one = {RowType::q3, RowType::q3, 1};
    fixed += static_cast<double>((packed_bytes(s, one) - static_cast<size_t>(row(RowType::q3))) *
                                     static_cast<size_t>(s.n_head_kv) +
                                 kPackedSlack);
  }
  const double n_bytes = std::max(0.0, press.wanted_bytes(f16_bytes()) - fixed);
  budget_.emplace(n_bytes, share->floor, n_heads, most, least * n_tokens);
}

double PackedReading::room() const {
  const double all = f16_bytes();
  if (press_.counts_bytes()) return press_.wanted_bytes(all) / all;
  return press_.wanted(n_tokens_ - n_question_) / static_cast<double>(n_tokens_ - n_question_);
}

double PackedReading::f16_bytes() const {
  double n = 0;
  for (const CacheShape& s : shapes_)
    n += f16_row_bytes(s) * static_cast<double>(s.n_head_kv * (n_tokens_ - n_question_));
  return n;
}

Result<void> PackedReading::add(Compute& compute, const LayerKv& kv, LayerScores& scores, KvBlock& block) {
  const CacheShape& shape = shapes_[static_cast<size_t>(il_)];
  LayerView& layer = scores.layer();
  const ReferenceQueries none;
  const ReferenceQueries* references = &none;
  if (press_.rows_k() == RowType::automatic) {
    const ByteShare* share = press_.share_of_bytes();  // whose references are there in any case
    CURDKV_TRY(references, layer.reference_queries(share != nullptr ? share->n_reference : kTypeReferences));
  }
  CURDKV_TRY(
      std::vector<EncodedHead> heads,
      choose_types(compute, kv, shape, n_tokens_, wanted_types(press_, room()), *references, layer.kq_scale));
  if (budget_) {
    CURDKV_CHECK(order(scores, shape, heads));
  } else {
    CURDKV_TRY(KeptTokens kept, select(scores, il_, heads));
    for (size_t h = 0; h < heads.size(); ++h) heads[h].tokens = std::move(kept[h]);
  }
  CURDKV_CHECK(encode_rows(compute, kv, shape, heads));
  if (budget_) {
    layers_.push_back(std::move(heads));
  } else {
    CURDKV_TRY(KvLayer rows, lay_out_rows(compute, shape, il_, heads, first_position_));
    block.layers.push_back(std::move(rows));
  }
  ++il_;
  return {};
}

Result<KeptTokens> PackedReading::select(LayerScores& scores, int64_t il,
                                         std::span<const EncodedHead> heads) const {
  const CacheShape& shape = shapes_[static_cast<size_t>(il)];
  std::optional<double> wanted;
  if (press_.counts_bytes()) {
    double row_bytes = 0;
    for (const EncodedHead& head : heads) row_bytes += static_cast<double>(head.row_bytes(shape));
    const double rows_for_one = f16_row_bytes(shape) * static_cast<double>(heads.size()) / row_bytes;
    wanted = room() * static_cast<double>(n_tokens_ - n_question_) * rows_for_one;
  }
  return select_tokens(scores, press_, n_question_, il, std::ssize(shapes_), wanted);
}

// Puts all tokens of every head in the press's order, and lets go of what no longer finds room, of this layer
// and of those before.
Result<void> PackedReading::order(LayerScores& scores, const CacheShape& shape,
                                  std::vector<EncodedHead>& heads) {
  const double wanted = static_cast<double>(n_tokens_ - n_question_) * room();
  CURDKV_TRY(TokenOrder tokens, order_tokens(scores, press_, n_question_, wanted));
  const ByteShare& share = *press_.share_of_bytes();
  CURDKV_TRY(const ReferenceWorth worth, scores.layer().reference_worth(share.n_reference));
  for (size_t h = 0; h < heads.size(); ++h) {
    std::vector<float> of_head = worth_of_head(worth, static_cast<int64_t>(h), share);
    budget_->add({n_tokens_, heads[h].row_bytes(shape), tokens.n_fixed, std::move(of_head)});
  }
  if (press_.budget_bytes() && !budget_->holds_floors()) {
    return Error{ErrorCode::bad_argument,
                 format("%lld bytes do not hold the tokens that every head keeps in any case",
                        (long long)*press_.budget_bytes())};
  }
  const std::vector<int64_t> counts = budget_->counts();
  auto n = counts.begin();
  for (size_t il = 0; il < layers_.size(); ++il) {
    for (EncodedHead& head : layers_[il]) head.cut(shapes_[il], *n++);
  }
  for (size_t h = 0; h < heads.size(); ++h) {
    tokens.tokens[h].resize(static_cast<size_t>(*n++));
    heads[h].tokens = std::move(tokens.tokens[h]);
  }
  return {};
}

Result<void> PackedReading::finish(Compute& compute, KvBlock& block) {
  for (size_t il = 0; il < layers_.size(); ++il) {
    CURDKV_TRY(KvLayer rows,
               lay_out_rows(compute, shapes_[il], static_cast<int64_t>(il), layers_[il], first_position_));
    block.layers.push_back(std::move(rows));
    layers_[il].clear();
  }
  layers_.clear();
  return {};
}

size_t PackedReading::n_bytes() const {
  size_t n = 0;
  for (const auto& layer : layers_) {
    for (const EncodedHead& head : layer) n += head.rows.n_bytes();
  }
  return n;
}

}  // namespace curdkv
