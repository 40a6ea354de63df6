#include "curdkv/batch.h"

#include <algorithm>
#include <set>

#include "base/guard.h"
#include "base/try.h"
#include "engine/decoder.h"
#include "engine/session_impl.h"

namespace curdkv {

struct BatchDecoder::Impl {
  Impl(const Model& shared_model, const SessionParams& session_params)
      : model(shared_model), params(session_params) {}

  Model model;
  SessionParams params;
  std::unique_ptr<Compute> compute;

  // The graph, and what it was built over.
  uint64_t epoch = 0;                // of compute
  std::vector<uint64_t> built_over;  // RaggedCache::version() of all sessions
  int64_t n_padded = 0;
  ggml_tensor* tokens = nullptr;           // I32 [n_padded]
  ggml_tensor* positions = nullptr;        // I32 [n_padded]
  std::vector<ggml_tensor*> cache_rows;    // I64 [n_head_kv * sessions] per layer: where new rows go
  LogitsNodes logits;                      // of n_padded columns
  std::vector<RaggedAttention> attention;  // per layer and session

  const HParams& hp() const { return model.impl().hp; }
  Result<void> check(std::span<Session::Impl* const> sessions, std::span<const Token> next) const;
  bool on_cpu() const;
  Result<void> build(std::span<Session::Impl* const> sessions);
  ggml_tensor* attend(std::span<Session::Impl* const> sessions, int64_t il, const Projections& p);
  Result<void> decode_in_turn(std::span<Session::Impl* const> sessions, std::span<const Token> next);
  void set_inputs(std::span<Session::Impl* const> sessions, std::span<const Token> next);
  Result<void> decode(std::span<Session::Impl* const> sessions, std::span<const Token> next);
};

namespace {

std::vector<uint64_t> versions_of(std::span<Session::Impl* const> sessions) {
  std::vector<uint64_t> versions;
  for (const Session::Impl* s : sessions) versions.push_back(s->cache.version());
  return versions;
}

// Joins columns, halves first, so that each is copied few times.
ggml_tensor* joined(ggml_context* ctx, std::span<ggml_tensor* const> columns) {
  if (columns.size() == 1) return columns[0];
  const size_t half = columns.size() / 2;
  return ggml_concat(ctx, joined(ctx, columns.first(half)), joined(ctx, columns.subspan(half)), 1);
}

}  // namespace

Result<void> BatchDecoder::Impl::check(std::span<Session::Impl* const> sessions,
                                       std::span<const Token> next) const {
  if (sessions.empty() || sessions.size() != next.size()) {
    return Error{ErrorCode::bad_argument, "a batch takes at least one session and a token for each"};
  }
  if (std::set<Session::Impl*>(sessions.begin(), sessions.end()).size() != sessions.size()) {
    return Error{ErrorCode::bad_argument, "a session is twice in a batch"};
  }
  for (size_t i = 0; i < sessions.size(); ++i) {
    if (&sessions[i]->m() != &model.impl()) {
      return Error{ErrorCode::bad_argument, "the sessions of a batch must be of its model"};
    }
    CURDKV_CHECK(sessions[i]->check_tokens(next.subspan(i, 1)));
  }
  return {};
}

bool BatchDecoder::Impl::on_cpu() const {
  const auto cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
  const auto& devices = model.impl().weights.layer_device;
  return std::all_of(devices.begin(), devices.end(), [&](ggml_backend_dev_t d) { return d == cpu; });
}

ggml_tensor* BatchDecoder::Impl::attend(std::span<Session::Impl* const> sessions, int64_t il,
                                        const Projections& p) {
  ggml_context* ctx = compute->context();
  const int64_t n_head_kv = hp().n_head_kv;
  const auto i = static_cast<size_t>(il);
  std::vector<ggml_tensor*> columns;
  for (size_t s = 0; s < sessions.size(); ++s) {
    const RaggedLayer& layer = sessions[s]->cache.layer(il);
    RaggedAttention& state = attention[i * sessions.size() + s];
    state = {&layer, 1, hp().n_group(), hp().kq_scale};
    ggml_tensor* rows = ggml_view_1d(ctx, cache_rows[i], n_head_kv,
                                     s * static_cast<size_t>(n_head_kv) * cache_rows[i]->nb[0]);
    const auto store = [&](ggml_tensor* into, ggml_tensor* fresh) {
      fresh = ggml_view_2d(ctx, fresh, fresh->ne[0], n_head_kv, fresh->nb[1], s * fresh->nb[2]);
      ggml_tensor* stored = ggml_set_rows(ctx, into, fresh, rows);
      ggml_build_forward_expand(compute->graph(), stored);
      return stored;
    };
    ggml_tensor* k = store(layer.k, p.k);
    ggml_tensor* v = store(layer.v, p.v);
    ggml_tensor* q =
        ggml_view_3d(ctx, p.q, p.q->ne[0], p.q->ne[1], 1, p.q->nb[1], p.q->nb[2], s * p.q->nb[2]);
    columns.push_back(ragged_attention_cpu(*compute, &state, q, k, v));
  }
  ggml_tensor* out = joined(ctx, columns);
  return ggml_pad(ctx, out, 0, static_cast<int>(n_padded - out->ne[1]), 0, 0);
}

Result<void> BatchDecoder::Impl::build(std::span<Session::Impl* const> sessions) {
  const auto n = static_cast<int64_t>(sessions.size());
  if (compute == nullptr) {
    CURDKV_TRY(compute, Compute::create(model.impl().weights, params.n_threads, 0, params.stop));
  }
  // A layer takes about 40 nodes, and a session in it some for its rows, its attention and the joining.
  compute->reserve_nodes(static_cast<size_t>(1024 + hp().n_layer * (64 + 16 * n)));
  CURDKV_TRY(ggml_context * ctx, compute->begin());
  n_padded = round_up(n, kExtendPad);
  const auto input = [&](ggml_type type, int64_t n_elements) {
    ggml_tensor* t = ggml_new_tensor_1d(ctx, type, n_elements);
    ggml_set_input(t);
    return t;
  };
  tokens = input(GGML_TYPE_I32, n_padded);
  positions = input(GGML_TYPE_I32, n_padded);
  cache_rows.clear();
  attention.assign(static_cast<size_t>(hp().n_layer * n), {});
  ggml_tensor* x = ggml_get_rows(ctx, model.impl().weights.token_embd, tokens);
  for (int64_t il = 0; il < hp().n_layer; ++il) {
    cache_rows.push_back(input(GGML_TYPE_I64, n * hp().n_head_kv));
    x = build_layer(ctx, model.impl(), il, x, positions, nullptr,
                    [&](const Projections& p) { return attend(sessions, il, p); });
  }
  logits = build_logits(ctx, model.impl(), x);
  ggml_build_forward_expand(compute->graph(), logits.logits);
  CURDKV_CHECK(compute->allocate());
  built_over = versions_of(sessions);
  epoch = compute->epoch();
  return {};
}

void BatchDecoder::Impl::set_inputs(std::span<Session::Impl* const> sessions, std::span<const Token> next) {
  std::vector<int32_t> ids(next.begin(), next.end()), at;
  ids.resize(static_cast<size_t>(n_padded), 0);
  for (const Session::Impl* s : sessions) at.push_back(static_cast<int32_t>(s->next_position));
  at.resize(static_cast<size_t>(n_padded), 0);
  Compute::set(tokens, ids);
  Compute::set(positions, at);
  std::vector<int64_t> rows;
  for (int64_t il = 0; il < hp().n_layer; ++il) {
    rows.clear();
    for (const Session::Impl* s : sessions) {
      const RaggedLayer& l = s->cache.layer(il);
      for (size_t h = 0; h < l.length.size(); ++h) rows.push_back(l.offset[h] + l.length[h]);
    }
    Compute::set(cache_rows[static_cast<size_t>(il)], rows);
  }
}

Result<void> BatchDecoder::Impl::decode(std::span<Session::Impl* const> sessions,
                                        std::span<const Token> next) {
  CURDKV_CHECK(check(sessions, next));
  if (!on_cpu()) return decode_in_turn(sessions, next);  // the custom attention ops are the CPU's
  for (Session::Impl* s : sessions) {
    CURDKV_CHECK(s->cache.reserve(1));
    s->logits.reserve(static_cast<size_t>(hp().n_vocab));
  }
  if (compute == nullptr || epoch != compute->epoch() || built_over != versions_of(sessions))
    CURDKV_CHECK(build(sessions));
  set_inputs(sessions, next);
  CURDKV_CHECK(compute->run());
  // From here on nothing fails.
  for (size_t i = 0; i < sessions.size(); ++i) {
    CURDKV_CHECK(read_logits(logits, static_cast<int64_t>(i), sessions[i]->logits));
  }
  for (Session::Impl* s : sessions) {
    s->cache.append(1);
    ++s->n_tokens;
    ++s->next_position;
  }
  return {};
}

Result<void> BatchDecoder::Impl::decode_in_turn(std::span<Session::Impl* const> sessions,
                                                std::span<const Token> next) {
  std::vector<Session::Mark> before;
  for (Session::Impl* s : sessions) before.push_back(s->mark());
  for (size_t i = 0; i < sessions.size(); ++i) {
    const auto done = guarded([&] { return sessions[i]->extend(next.subspan(i, 1), {}); });
    if (done) continue;
    for (size_t j = 0; j < i; ++j) sessions[j]->rewind(std::move(before[j]));
    return done;
  }
  return {};
}

BatchDecoder::BatchDecoder(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
BatchDecoder::BatchDecoder(BatchDecoder&&) noexcept = default;
BatchDecoder::~BatchDecoder() = default;

Result<BatchDecoder> BatchDecoder::create(const Model& model, const SessionParams& params) {
  return guarded([&]() -> Result<BatchDecoder> {
    if (params.n_threads < 1 || params.n_threads > GGML_MAX_N_THREADS) {
      return Error{ErrorCode::bad_argument, "the number of threads is out of range"};
    }
    return BatchDecoder(std::make_unique<Impl>(model, params));
  });
}

Result<void> BatchDecoder::decode(std::span<Session* const> sessions, std::span<const Token> tokens) {
  return guarded([&] {
    std::vector<Session::Impl*> impls;
    for (Session* s : sessions) impls.push_back(s->impl_.get());
    return impl_->decode(impls, tokens);
  });
}

}  // namespace curdkv
