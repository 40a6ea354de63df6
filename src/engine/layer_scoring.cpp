#include "engine/layer_scoring.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/stopwatch.h"
#include "base/try.h"
#include "curdkv/press.h"
#include "engine/decoder.h"
#include "press/gaussian.h"
#include "press/select.h"

namespace curdkv {
namespace {

std::vector<int32_t> all_tokens(int64_t n) {
  std::vector<int32_t> all(static_cast<size_t>(n));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

// Scores of the first n tokens, sinks above everything.
Scores with_sinks(const Scores& scores, int64_t n, int64_t n_sinks) {
  Scores out(n, scores.n_head());
  for (int64_t h = 0; h < scores.n_head(); ++h) {
    std::copy_n(scores.row(h).begin(), n, out.row(h).begin());
    std::fill_n(out.row(h).begin(), std::min(n, n_sinks), std::numeric_limits<float>::infinity());
  }
  return out;
}

// The tokens of a context that compete for room: all but the protected last ones.
struct OpenTokens {
  int64_t n_protected, n, n_sinks;
  OpenTokens(const LayerView& layer, const Press& press, int64_t n_context)
      : n_protected(std::min(press.protect_last(), n_context)),
        n(n_context - n_protected),
        n_sinks(std::min(n, layer.n_below(press.scorer()->n_sinks()))) {}
};

}  // namespace

Result<std::vector<std::vector<float>>> ModelLayerView::run(const Build& build) {
  CURDKV_TRY(ggml_context * ctx, compute_.begin());
  ScoreGraph graph(ctx);
  const std::vector<ggml_tensor*> wanted = build(graph);
  for (ggml_tensor* t : wanted) {
    ggml_set_output(t);
    ggml_build_forward_expand(compute_.graph(), t);
  }
  CURDKV_CHECK(compute_.allocate());
  for (const auto& c : graph.constants()) Compute::set(c.tensor, c.data);
  CURDKV_CHECK(compute_.run());
  std::vector<std::vector<float>> out;
  for (ggml_tensor* t : wanted) {
    out.emplace_back(static_cast<size_t>(ggml_nelements(t)));
    ggml_backend_tensor_get(t, out.back().data(), 0, ggml_nbytes(t));
  }
  return out;
}

Result<void> ModelLayerView::in_parallel(int64_t n, const std::function<void(int64_t i)>& work) {
  return compute_.run_pieces(n, work);
}

ggml_tensor* ModelLayerView::without_rope(ScoreGraph& graph, ggml_tensor* x, int64_t first) {
  ggml_context* ctx = graph.ctx();
  x = ggml_permute(ctx, x, 0, 2, 1, 3);  // [d, heads, n], as RoPE wants it
  x = x->type == GGML_TYPE_F32 ? ggml_cont(ctx, x) : ggml_cast(ctx, x, GGML_TYPE_F32);
  // Positions are integers, and constants F32: exact below 2^24.
  std::vector<float> back;
  for (int64_t t = 0; t < x->ne[2]; ++t)
    back.push_back(static_cast<float>(-positions[static_cast<size_t>(first + t)]));
  ggml_tensor* turn = ggml_cast(ctx, graph.constant(back, x->ne[2]), GGML_TYPE_I32);
  x = rotate_keeping_length(ctx, model_.hp.rope, model_.rope_freqs, x, turn, 2);
  return ggml_cont(ctx, ggml_permute(ctx, x, 0, 2, 1, 3));
}

Result<std::vector<float>> ModelLayerView::mean_rotation(int64_t first, int64_t n) {
  const RopeParams& rope = model_.hp.rope;
  const int64_t d = d_head_k;
  std::vector<int32_t> by(static_cast<size_t>(n));
  std::iota(by.begin(), by.end(), static_cast<int32_t>(first));
  CURDKV_TRY(const Rotations all, Rotations::make(compute_, rope, model_.rope_freqs, std::move(by), true));
  std::vector<float> r(static_cast<size_t>(d * d), 0.0f);
  const auto at = [&](int64_t row, int64_t column) -> float& {
    return r[static_cast<size_t>(row * d + column)];
  };
  for (int64_t i = rope.n_rot; i < d; ++i) at(i, i) = 1.0f;
  for (int64_t p = 0; p < all.n_pairs(); ++p) {
    double mean_cos = 0, mean_sin = 0;
    for (int64_t t = 0; t < n; ++t) {
      mean_cos += all.cos(t, p) / static_cast<double>(n);
      mean_sin += all.sin(t, p) / static_cast<double>(n);
    }
    const int64_t i = all.first_of(p), j = all.second_of(p);
    const auto cos = static_cast<float>(mean_cos), sin = static_cast<float>(mean_sin);
    at(i, i) = at(j, j) = cos;
    at(j, i) = sin;
    at(i, j) = -sin;
  }
  return r;
}

// Weights may be packed in a way only a product can read, so the matrix is what it makes of the unit vectors.
Result<std::vector<float>> ModelLayerView::output_matrix() {
  if (!output_matrix_.empty()) return output_matrix_;
  const int64_t n_in = model_.wo->ne[0], n_mine = n_head() * d_head_v;
  std::vector<float> unit(static_cast<size_t>(n_in * n_mine), 0.0f);
  for (int64_t i = 0; i < n_mine; ++i)
    unit[static_cast<size_t>(i * n_in + first_head_ * d_head_v + i)] = 1.0f;
  CURDKV_TRY(auto parts, run([&](ScoreGraph& g) {
               ggml_tensor* columns =
                   ggml_mul_mat(g.ctx(), model_.wo, g.constant(unit, n_in, n_mine));  // [n_embd, n_mine]
               return std::vector<ggml_tensor*>{ggml_cont(g.ctx(), ggml_transpose(g.ctx(), columns))};
             }));
  output_matrix_ = std::move(parts[0]);
  return output_matrix_;
}

std::vector<float> ModelLayerView::gaussian(uint64_t seed, int64_t d, int64_t rank, int64_t n) {
  return gaussian_matrices(seed, model_.il, d, rank, 0, n);
}

PrefilledLayer::PrefilledLayer(Compute& compute, const LayerModel& model, const LayerKv& kv, int64_t tokens,
                               int64_t first_position, RotationCache* rotations)
    : ModelLayerView(compute, model),
      rotations_(rotations != nullptr ? rotations : &own_rotations_),
      kv_(kv),
      ops_(compute) {
  n_tokens = tokens;
  positions.resize(static_cast<size_t>(tokens));
  std::iota(positions.begin(), positions.end(), static_cast<int32_t>(first_position));
  if (kv.q != nullptr) query_positions.assign(positions.begin() + kv.q_first, positions.end());
  n_head_kv = kv.k->ne[1];
  n_group = model.shape().n_group();
  d_head_k = kv.k->ne[0];
  d_head_v = kv.v->ne[0];
  kq_scale = model.shape().kq_scale;
}

namespace {

// Tokens [first, first + n) of [d, heads, tokens], as [d, n, heads].
ggml_tensor* by_head(ScoreGraph& g, ggml_tensor* x, int64_t first, int64_t n) {
  return ggml_view_3d(g.ctx(), x, x->ne[0], n, x->ne[1], x->nb[2], x->nb[1],
                      static_cast<size_t>(first) * x->nb[2]);
}

}  // namespace

ggml_tensor* PrefilledLayer::keys(ScoreGraph& g, int64_t first, int64_t n) {
  return by_head(g, kv_.k, kv_.n_held + first, n);
}
ggml_tensor* PrefilledLayer::values(ScoreGraph& g, int64_t first, int64_t n) {
  return by_head(g, kv_.v, kv_.n_held + first, n);
}
ggml_tensor* PrefilledLayer::queries(ScoreGraph& g, int64_t first, int64_t n) {
  return by_head(g, kv_.q, first, n);
}

Result<const ReferenceQueries*> PrefilledLayer::reference_queries(int64_t n) {
  if (!references_.contains(n)) {
    CURDKV_TRY(ReferenceQueries turned, turned_queries(n));
    references_.emplace(n, std::move(turned));
  }
  return &references_.at(n);
}

// All heads' queries of tokens, F32 [d_head_k, n_head, tokens], where queries lie on a device; else nothing.
Result<std::vector<float>> PrefilledLayer::queries_on_device(const std::vector<int32_t>& tokens) {
  if (ggml_backend_buffer_is_host(kv_.q->buffer)) return std::vector<float>();
  std::vector<float> at;  // exact below 2^24
  for (const int32_t token : tokens) at.push_back(static_cast<float>(token - n_tokens + n_queries()));
  CURDKV_TRY(
      auto parts, run([&](ScoreGraph& g) {
        ggml_tensor* q = ggml_view_2d(g.ctx(), kv_.q, d_head_k * n_head(), n_queries(), kv_.q->nb[2], 0);
        ggml_tensor* rows = ggml_cast(g.ctx(), g.constant(std::move(at), std::ssize(tokens)), GGML_TYPE_I32);
        return std::vector<ggml_tensor*>{ggml_get_rows(g.ctx(), q, rows)};
      }));
  return std::move(parts[0]);
}

Result<ReferenceQueries> PrefilledLayer::turned_queries(int64_t n) {
  if (kv_.q == nullptr || n_queries() == 0)
    return Error{ErrorCode::internal, "no queries were kept to be references"};
  ReferenceQueries out;
  out.n = std::clamp<int64_t>(n, 1, n_queries() * n_group);
  for (int64_t i = 0; i < out.n; ++i) {
    const int64_t at = (2 * i + 1) * n_queries() / (2 * out.n);  // evenly spaced
    out.tokens.push_back(static_cast<int32_t>(n_tokens - n_queries() + at));
  }
  // Query i is of head i mod n_group of its group, so that each token tells of another one.
  CURDKV_TRY(const std::vector<float> fetched, queries_on_device(out.tokens));
  const auto row_of = [&](int64_t i, int64_t h) {
    const int64_t head = h * n_group + i % n_group;
    if (!fetched.empty())
      return reinterpret_cast<const char*>(fetched.data() + (i * n_head() + head) * d_head_k);
    const int64_t token = out.tokens[static_cast<size_t>(i)] - n_tokens + n_queries();
    return static_cast<const char*>(kv_.q->data) + static_cast<size_t>(token) * kv_.q->nb[2] +
           static_cast<size_t>(head) * kv_.q->nb[1];
  };
  const ggml_type type = fetched.empty() ? kv_.q->type : GGML_TYPE_F32;
  std::vector<int32_t> by;
  for (const int32_t token : out.tokens) {
    const auto behind = static_cast<int32_t>(1 + by.size() % 64);
    by.push_back(positions.back() + behind - positions[static_cast<size_t>(token)]);
  }
  CURDKV_TRY(const Rotations* turns,
             rotations_->keeping_length(compute_, model_.hp.rope, model_.rope_freqs, by));
  out.q.resize(static_cast<size_t>(d_head_k * n_head_kv * out.n));
  CURDKV_CHECK(in_parallel(n_head_kv, [&](int64_t h) {
    constexpr int64_t kAhead = 8;  // queries, which lie far apart
    for (int64_t i = 0; i < out.n; ++i) {
      const char* soon = row_of(std::min(i + kAhead, out.n - 1), h);
      for (int64_t at = 0; at < static_cast<int64_t>(ggml_row_size(type, d_head_k)); at += 64)
        __builtin_prefetch(soon + at);
      float* to = out.q.data() + (h * out.n + i) * d_head_k;
      widen_row(type, row_of(i, h), d_head_k, to);
      turns->apply(i, to);
    }
  }));
  return out;
}

Result<ReferenceWorth> PrefilledLayer::reference_worth(int64_t n_queries) {
  if (!worth_.contains(n_queries)) {
    CURDKV_TRY(ReferenceWorth worth, LayerView::reference_worth(n_queries));
    worth_.emplace(n_queries, std::move(worth));
  }
  return worth_.at(n_queries);
}

FusedOps* PrefilledLayer::fused() {
  const auto here = [](const ggml_tensor* x) {
    return x == nullptr || ggml_backend_buffer_is_host(x->buffer);
  };
  const bool fits = std::max(d_head_k, d_head_v) <= kMostRowSize;
  return fits && here(kv_.k) && here(kv_.v) && here(kv_.q) ? &ops_ : nullptr;
}

HeldRows::HeldRows(Compute& compute, const LayerModel& model, const KvLayer& layer, int64_t head,
                   const RecentQueries& recent)
    : ModelLayerView(compute, model), layer_(layer), recent_(recent), head_(head) {
  n_tokens = layer.length[static_cast<size_t>(head)];
  positions = layer.positions[static_cast<size_t>(head)].unpacked();
  query_positions = recent.positions();
  n_head_kv = 1;
  n_group = model.shape().n_group();
  first_head_ = head * n_group;
  d_head_k = layer.k->ne[0];
  d_head_v = layer.v->ne[0];
  kq_scale = model.shape().kq_scale;
}

ggml_tensor* HeldRows::keys(ScoreGraph& g, int64_t first, int64_t n) {
  return view_rows(g.ctx(), layer_.k, layer_.offset[static_cast<size_t>(head_)] + first, n);
}
ggml_tensor* HeldRows::values(ScoreGraph& g, int64_t first, int64_t n) {
  return view_rows(g.ctx(), layer_.v, layer_.offset[static_cast<size_t>(head_)] + first, n);
}
ggml_tensor* HeldRows::queries(ScoreGraph& g, int64_t first, int64_t n) {
  return g.constant(recent_.rows_of_heads(model_.il, first_head_, n_group, first, n), d_head_k, n, n_group);
}
Result<Scores> HeldRows::reconstruction() {
  return Error{ErrorCode::internal, "a context cannot be repeated while generating"};
}
std::vector<float> HeldRows::gaussian(uint64_t seed, int64_t d, int64_t rank, int64_t n) {
  return gaussian_matrices(seed, model_.il, d, rank, head_, n);
}

Result<const Scores*> LayerScores::of(const Press& press, const ScoreRequest& request) {
  shared_ms_ = 0;
  if (const auto it = shared_.find(press.scoring()); it != shared_.end()) {
    shared_ms_ = it->second.ms;
    return &it->second.scores;
  }
  const Stopwatch watch;
  CURDKV_TRY(own_, press.scorer()->score(layer_, request));
  if (press.scorer()->needs().budget) return &own_;
  return &shared_.emplace(press.scoring(), Entry{std::move(own_), watch.ms()}).first->second.scores;
}

Result<KeptTokens> select_tokens(LayerScores& layer_scores, const Press& press, int64_t n_question,
                                 int64_t il, int64_t n_layer, std::optional<double> room) {
  const LayerView& layer = layer_scores.layer();
  const int64_t n_context = layer.n_tokens - n_question;
  const double wanted = room ? *room : press.wanted(n_context);
  const int64_t n_kept = press.n_kept_in_layer(n_context, wanted, il, n_layer);
  const auto n_head_kv = static_cast<size_t>(layer.n_head_kv);
  if (press.is_none() || n_kept >= n_context) return KeptTokens(n_head_kv, all_tokens(layer.n_tokens));
  CURDKV_TRY(const Scores* scores, layer_scores.of(press, {n_kept + n_question,
                                                           room ? 1 - *room / static_cast<double>(n_context)
                                                                : press.removed(n_context),
                                                           press.seed()}));
  const OpenTokens open(layer, press, n_context);
  const Budget budget = {n_kept - open.n_protected, wanted - static_cast<double>(open.n_protected)};
  KeptTokens kept = press.selection()->select(with_sinks(*scores, open.n, open.n_sinks), budget);
  for (auto& head : kept) {
    for (int64_t t = open.n; t < layer.n_tokens; ++t) head.push_back(static_cast<int32_t>(t));
  }
  return kept;
}

Result<TokenOrder> order_tokens(LayerScores& layer_scores, const Press& press, int64_t n_question,
                                double wanted) {
  const LayerView& layer = layer_scores.layer();
  const int64_t n_context = layer.n_tokens - n_question;
  const double removed = std::max(0.0, 1 - wanted / static_cast<double>(n_context));
  CURDKV_TRY(const Scores* scores,
             layer_scores.of(press, {static_cast<int64_t>(wanted) + n_question, removed, press.seed()}));
  const OpenTokens open(layer, press, n_context);
  const Scores by_score = with_sinks(*scores, open.n, open.n_sinks);
  TokenOrder order;
  order.n_fixed = std::min(layer.n_tokens, n_question + open.n_protected + open.n_sinks + 1);
  order.tokens.resize(static_cast<size_t>(layer.n_head_kv));
  CURDKV_CHECK(layer_scores.layer().in_parallel(layer.n_head_kv, [&](int64_t h) {
    std::vector<int32_t>& tokens = order.tokens[static_cast<size_t>(h)];
    for (int64_t t = open.n; t < layer.n_tokens; ++t) tokens.push_back(static_cast<int32_t>(t));
    const std::vector<int64_t> ranks = ranks_of(by_score.row(h));
    const size_t first = tokens.size();
    tokens.resize(first + ranks.size());
    for (size_t t = 0; t < ranks.size(); ++t)
      tokens[first + static_cast<size_t>(ranks[t])] = static_cast<int32_t>(t);
  }));
  return order;
}

Result<std::vector<int32_t>> select_rows(HeldRows& rows, const Press& press, int64_t budget) {
  const int64_t n = rows.n_tokens;
  if (n <= budget) return all_tokens(n);
  const double removed = 1 - static_cast<double>(budget) / static_cast<double>(n);
  CURDKV_TRY(const Scores scores, press.scorer()->score(rows, {budget, removed, press.seed()}));
  const int64_t n_sinks = rows.n_below(press.scorer()->n_sinks());
  const int64_t n_protected = std::clamp<int64_t>(budget - n_sinks, 0, press.protect_last());
  std::vector<int32_t> kept =
      best_of_each_head(with_sinks(scores, n - n_protected, n_sinks), budget - n_protected)[0];
  for (int64_t t = n - n_protected; t < n; ++t) kept.push_back(static_cast<int32_t>(t));
  return kept;
}

}  // namespace curdkv
