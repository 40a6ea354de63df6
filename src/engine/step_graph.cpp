#include "engine/step_graph.h"

#include <algorithm>

#include "base/try.h"
#include "compute/products/row_products.h"
#include "engine/decoder.h"
#include "engine/limits.h"

namespace curdkv {

StepGraph::StepGraph(const Model::Impl& model, Compute& compute, bool portable_attention, bool pad_alone)
    : model_(model), compute_(compute), portable_attention_(portable_attention), pad_alone_(pad_alone) {
  for (int64_t il = 0; il < model.hp.n_layer; ++il) {
    all_by_kernels_ = all_by_kernels_ && uses_kernels(il);
    for (const ggml_tensor* w : model.matrices(il)) all_by_rows_ = all_by_rows_ && RowProducts::takes(w);
  }
  all_by_rows_ = all_by_rows_ && RowProducts::takes(model.weights.output);
}

bool StepGraph::uses_kernels(int64_t il) const {
  return !portable_attention_ && model_.weights.layer_device[static_cast<size_t>(il)] ==
                                     ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
}

Result<void> StepGraph::run(std::span<const StepPart> parts) {
  const bool decoding = parts[0].decoded;
  bool all_logits = false;
  for (const StepPart& p : parts) {
    CURDKV_CHECK(p.sequence->cache.reserve(std::ssize(p.tokens)));
    all_logits = all_logits || p.sink != nullptr;
  }
  set_spans(parts);
  if (!serves(decoding)) CURDKV_CHECK(build(decoding, all_logits));
  if (decoding) n_row_columns_ = n_columns_;
  set_inputs(parts);
  CURDKV_CHECK(compute_.run());
  return finish(parts);
}

void StepGraph::set_spans(std::span<const StepPart> parts) {
  attention_.spans.clear();
  n_columns_ = 0;
  singles_ = true;
  for (const StepPart& p : parts) {
    attention_.spans.push_back({&p.sequence->cache, std::ssize(p.tokens), n_columns_});
    n_columns_ += std::ssize(p.tokens);
    singles_ = singles_ && p.tokens.size() == 1;
  }
}

int64_t StepGraph::padded(bool decoding) const {
  return decoding && n_columns_ == 1 && !pad_alone_ ? 1 : round_up(n_columns_, kExtendPad);
}

// Whether the graph at hand is one that decodes as many tokens, and has room for their blocks.
bool StepGraph::serves(bool decoding) const {
  if (!decoding || epoch_ == 0 || epoch_ != compute_.epoch()) return false;
  if (n_padded_ != padded(decoding) || attention_.decoding != singles_) return false;
  for (int64_t il = 0; il < model_.hp.n_layer; ++il) {
    if (n_attention_blocks(attention_, il) > most_blocks_[static_cast<size_t>(il)]) return false;
  }
  return true;
}

Result<void> StepGraph::build(bool decoding, bool all_logits) {
  const HParams& hp = model_.hp;
  const auto n_parts = std::ssize(attention_.spans);
  epoch_ = 0;
  // A layer takes about 40 nodes, and some per KV head and run of rows where attention is made of standard
  // ops.
  int64_t n_runs = 0;
  if (!all_by_kernels_) {
    const SequenceCache& cache = *attention_.spans[0].cache;
    n_runs = std::ssize(cache.blocks()) + std::ssize(cache.tail().parts());
  }
  compute_.reserve_nodes(static_cast<size_t>(1024 + hp.n_layer * (64 + 8 * hp.largest().n_head_kv * n_runs)));
  CURDKV_TRY(ggml_context * ctx, compute_.begin());
  const auto input = [&](ggml_type type, int64_t n) {
    ggml_tensor* t = ggml_new_tensor_1d(ctx, type, n);
    ggml_set_input(t);
    return t;
  };
  n_padded_ = padded(decoding);
  tokens_ = input(GGML_TYPE_I32, n_padded_);
  positions_ = input(GGML_TYPE_I32, n_padded_);
  out_rows_ = decoding || all_logits ? nullptr : input(GGML_TYPE_I32, n_parts);
  portable_.assign(static_cast<size_t>(hp.n_layer), {});
  mask_ = nullptr;
  attention_.decoding = decoding && singles_;
  most_blocks_.clear();

  int64_t widest = 0;
  if (!all_by_kernels_) {
    for (int64_t il = 0; il < hp.n_layer; ++il)
      widest = std::max(widest, attention_.spans[0].cache->longest(il));
  }
  const RaggedMask ragged_mask = {widest, n_columns_};
  // A question's products are ggml's, but for those of its last token alone.
  n_row_columns_ = decoding ? n_columns_ : 1;
  RowProducts rows(compute_, &n_row_columns_);
  const Multiply multiply = [&](ggml_context*, ggml_tensor* w, ggml_tensor* in) {
    const bool by_rows = !portable_attention_ && (decoding || in->ne[1] == 1);
    return by_rows ? rows.multiply(ctx, w, in) : ggml_mul_mat(ctx, w, in);
  };
  ggml_tensor* x = ggml_get_rows(ctx, model_.weights.token_embd, tokens_);
  for (int64_t il = 0; il < hp.n_layer; ++il) {
    // The next 128 tokens of each sequence find room, a block more for each head.
    most_blocks_.push_back(n_attention_blocks(attention_, il) +
                           round_up(n_parts, kExtendPad) * hp.layer(il).n_head_kv);
    x = build_layer(
        ctx, model_, il, x, positions_, il + 1 == hp.n_layer ? out_rows_ : nullptr,
        [&](const Projections& p) { return attend(il, p, ragged_mask); }, multiply);
  }
  logits_ = build_logits(ctx, model_, x, multiply);
  ggml_build_forward_expand(compute_.graph(), logits_.logits);
  CURDKV_CHECK(compute_.allocate());
  if (mask_ != nullptr) ragged_mask.write(mask_);
  epoch_ = decoding && all_by_kernels_ ? compute_.epoch() : 0;
  return {};
}

ggml_tensor* StepGraph::attend(int64_t il, const Projections& p, const RaggedMask& mask) {
  const auto i = static_cast<size_t>(il);
  const LayerShape& shape = model_.hp.layer(il);
  const AttentionLayer layer = {il, shape.n_group(), shape.kq_scale};
  if (uses_kernels(il))
    return ragged_attention_cpu(compute_, &attention_, layer, most_blocks_[i], p.q, p.k, p.v);
  const auto input = [&](ggml_type type, int64_t n) {
    ggml_tensor* t = ggml_new_tensor_1d(compute_.context(), type, n);
    ggml_set_input(t);
    return t;
  };
  if (n_columns_ > 1 && mask_ == nullptr) mask_ = input(GGML_TYPE_F16, mask.n_elements());
  portable_[i] = {input(GGML_TYPE_I64, n_columns_ * shape.n_head_kv), mask_};
  return ragged_attention_portable(compute_, attention_, layer, p.q, p.k, p.v, portable_[i], mask);
}

void StepGraph::set_inputs(std::span<const StepPart> parts) {
  std::vector<int32_t> ids, positions, last;
  for (const StepPart& p : parts) {
    for (int64_t t = 0; t < std::ssize(p.tokens); ++t) {
      ids.push_back(p.tokens[static_cast<size_t>(t)]);
      positions.push_back(static_cast<int32_t>(p.sequence->next_position + t));
    }
    last.push_back(static_cast<int32_t>(ids.size()) - 1);
  }
  const int32_t of_padding = positions.back();
  ids.resize(static_cast<size_t>(n_padded_), 0);
  positions.resize(static_cast<size_t>(n_padded_), of_padding);
  Compute::set(tokens_, ids);
  Compute::set(positions_, positions);
  if (out_rows_ != nullptr) Compute::set(out_rows_, last);
  for (size_t il = 0; il < portable_.size(); ++il) {
    const int64_t n_head_kv = model_.hp.layers[il].n_head_kv;
    if (portable_[il].rows != nullptr)
      Compute::set(portable_[il].rows, tail_rows(attention_.spans[0], n_head_kv));
  }
}

Result<void> StepGraph::finish(std::span<const StepPart> parts) {
  fresh_logits_.resize(parts.size());
  for (size_t i = 0; i < parts.size(); ++i) {
    const int64_t n = std::ssize(parts[i].tokens), first = attention_.spans[i].column;
    if (parts[i].sink == nullptr) {
      CURDKV_CHECK(read_logits(logits_, out_rows_ != nullptr ? static_cast<int64_t>(i) : first + n - 1,
                               fresh_logits_[i]));
      continue;
    }
    for (int64_t t = 0; t < n; ++t) {
      CURDKV_CHECK(read_logits(logits_, first + t, fresh_logits_[i]));
      (*parts[i].sink)(parts[i].sequence->n_tokens + t, fresh_logits_[i]);
    }
  }
  // From here on nothing fails.
  for (size_t i = 0; i < parts.size(); ++i) {
    SequenceState& s = *parts[i].sequence;
    const int64_t n = std::ssize(parts[i].tokens);
    s.cache.append(n, s.next_position);
    s.n_tokens += n;
    s.next_position += n;
    s.logits.swap(fresh_logits_[i]);
  }
  return {};
}

}  // namespace curdkv
