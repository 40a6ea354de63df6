// Extending a sequence over the ragged cache: questions in chunks, and decoding one token at a time.
#include "base/try.h"
#include "engine/decoder.h"
#include "engine/session_impl.h"
#include "products/row_products.h"

namespace curdkv {
// The graph for n_new tokens; a decoding step's serves the next steps while the cache has not moved.
Result<void> Session::Impl::build_extend(int64_t n_new, bool decoding, bool all_logits) {
  DecodeGraph& d = decode;
  const HParams& hp = m().hp;
  reserve_nodes(0);
  CURDKV_TRY(ggml_context * ctx, compute->begin());
  d.n_padded = decoding ? 1 : round_up(n_new, kExtendPad);
  const auto input = [&](ggml_type type, int64_t n) {
    ggml_tensor* t = ggml_new_tensor_1d(ctx, type, n);
    ggml_set_input(t);
    return t;
  };
  d.tokens = input(GGML_TYPE_I32, d.n_padded);
  d.positions = input(GGML_TYPE_I32, d.n_padded);
  d.out_rows = all_logits || d.n_padded == 1 ? nullptr : input(GGML_TYPE_I32, 1);
  d.mask = nullptr;
  d.cache_rows.clear();
  d.attention.assign(static_cast<size_t>(hp.n_layer), {});

  int64_t widest = 0;
  for (int64_t il = 0; il < hp.n_layer; ++il) widest = std::max(widest, cache.layer(il).longest());
  const RaggedMask ragged_mask = {widest, n_new};

  bool portable = false;
  RowProducts products(*compute);
  const Multiply multiply = params.portable_attention ? Multiply(ggml_mul_mat) : products.multiply_by();
  ggml_tensor* x = ggml_get_rows(ctx, m().weights.token_embd, d.tokens);
  for (int64_t il = 0; il < hp.n_layer; ++il) {
    const auto i = static_cast<size_t>(il);
    const RaggedLayer& layer = cache.layer(il);
    d.attention[i] = {&layer, n_new, hp.n_group(), hp.kq_scale};
    d.cache_rows.push_back(input(GGML_TYPE_I64, n_new * hp.n_head_kv));
    const Attend attend = [&](const Projections& p) {
      // New rows of all heads in one op: row r of the source is token r / n_head_kv, head r % n_head_kv.
      const auto store = [&](ggml_tensor* rows, ggml_tensor* fresh) {
        fresh = ggml_view_2d(ctx, fresh, fresh->ne[0], n_new * hp.n_head_kv, fresh->nb[1], 0);
        ggml_tensor* stored = ggml_set_rows(ctx, rows, fresh, d.cache_rows[i]);
        ggml_build_forward_expand(compute->graph(), stored);
        return stored;
      };
      ggml_tensor* k = store(layer.k, p.k);
      ggml_tensor* v = store(layer.v, p.v);
      if (on_cpu(il) && !params.portable_attention) {
        return ragged_attention_cpu(*compute, &d.attention[i], p.q, k, v);
      }
      portable = true;
      if (n_new > 1 && d.mask == nullptr) d.mask = input(GGML_TYPE_F16, ragged_mask.n_elements());
      return ragged_attention_portable(ctx, d.attention[i], p.q, k, v, d.mask, ragged_mask);
    };
    x = build_layer(ctx, m(), il, x, d.positions, il + 1 == hp.n_layer ? d.out_rows : nullptr, attend,
                    multiply);
  }
  d.logits = build_logits(ctx, m(), x, multiply);
  ggml_build_forward_expand(compute->graph(), d.logits.logits);
  CURDKV_CHECK(compute->allocate());
  if (d.mask != nullptr) ragged_mask.write(d.mask);
  // The portable ops have the lengths built in; so has a graph for several tokens its shape.
  d.epoch = decoding && !portable ? compute->epoch() : 0;
  d.cache_version = cache.version();
  return {};
}

Result<void> Session::Impl::extend_chunk(std::span<const Token> tokens, bool decoding,
                                         const LogitsSink& sink) {
  const auto n_new = static_cast<int64_t>(tokens.size());
  const HParams& hp = m().hp;
  CURDKV_CHECK(cache.reserve(n_new));
  DecodeGraph& d = decode;
  if (!decoding || d.cache_version != cache.version() || d.epoch != compute->epoch())
    CURDKV_CHECK(build_extend(n_new, decoding, bool(sink)));

  std::vector<int32_t> ids(tokens.begin(), tokens.end()), positions;
  ids.resize(static_cast<size_t>(d.n_padded), 0);
  for (int64_t i = 0; i < d.n_padded; ++i)
    positions.push_back(static_cast<int32_t>(next_position + std::min(i, n_new - 1)));
  Compute::set(d.tokens, ids);
  Compute::set(d.positions, positions);
  if (d.out_rows != nullptr) Compute::set(d.out_rows, std::vector<int32_t>{static_cast<int32_t>(n_new - 1)});
  std::vector<int64_t> rows;
  for (int64_t il = 0; il < hp.n_layer; ++il) {
    const RaggedLayer& l = cache.layer(il);
    rows.clear();
    for (int64_t t = 0; t < n_new; ++t) {
      for (size_t h = 0; h < l.length.size(); ++h) rows.push_back(l.offset[h] + l.length[h] + t);
    }
    Compute::set(d.cache_rows[static_cast<size_t>(il)], rows);
  }
  CURDKV_CHECK(compute->run());

  for (int64_t i = 0; i < (sink ? n_new : 1); ++i) {
    CURDKV_CHECK(read_logits(d.logits, i, logits));
    if (sink) sink(n_tokens + i, logits);
  }
  cache.append(n_new);
  n_tokens += n_new;
  next_position += n_new;
  return {};
}

Result<void> Session::Impl::extend(std::span<const Token> tokens, const LogitsSink& sink) {
  CURDKV_CHECK(check_tokens(tokens));
  const auto batch = static_cast<size_t>(round_up(params.n_batch, kTileTokens));
  const bool decoding =
      tokens.size() == 1;  // a last chunk of one token is not: it must not depend on the chunk size
  for (size_t at = 0; at < tokens.size(); at += batch) {
    CURDKV_CHECK(extend_chunk(tokens.subspan(at, std::min(batch, tokens.size() - at)), decoding, sink));
  }
  return {};
}

}  // namespace curdkv
