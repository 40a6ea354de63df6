#include "engine/step_graph.h"

#include <algorithm>

#include "base/try.h"
#include "compute/products/question_products.h"
#include "compute/products/row_products.h"
#include "engine/decoder.h"
#include "engine/step_inputs.h"

namespace curdkv {

StepGraph::StepGraph(const Model::Impl& model, Compute& compute, const Choices& choices)
    : model_(model), compute_(compute), choices_(choices) {
  for (int64_t il = 0; il < model.hp.n_layer; ++il) {
    all_by_kernels_ = all_by_kernels_ && uses_kernels(il);
    for (const ggml_tensor* w : model.matrices(il)) all_by_rows_ = all_by_rows_ && RowProducts::takes(w);
  }
  all_by_rows_ = all_by_rows_ && RowProducts::takes(model.weights.output);
}

StepGraph::~StepGraph() = default;

bool StepGraph::uses_kernels(int64_t il) const {
  return !choices_.portable_attention && model_.weights.layer_device[static_cast<size_t>(il)] ==
                                             ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
}

Result<void> StepGraph::run(std::span<const StepPart> parts) {
  for (const StepPart& p : parts) {
    CURDKV_CHECK(p.sequence->cache.reserve(std::ssize(p.tokens)));
    p.sequence->recent.reserve(p.n_recent());
  }
  const StepBatch batch(parts, choices_.pad_alone);
  if (!serves(batch)) CURDKV_CHECK(build(batch));
  for (const auto& input : inputs_) input->set_input(batch);
  CURDKV_CHECK(compute_.run());
  for (const StepPart& p : parts) CURDKV_CHECK(p.sequence->cache.check());
  return finish(batch);
}

bool StepGraph::serves(const StepBatch& batch) const {
  return compute_.holds_graph_of(this) && queries_.empty() == (batch.n_queries == 0) &&
         std::all_of(inputs_.begin(), inputs_.end(),
                     [&](const auto& input) { return input->can_reuse(batch); });
}

template <typename Input, typename... Args>
Input& StepGraph::add(Args&&... args) {
  inputs_.push_back(std::make_unique<Input>(compute_.context(), std::forward<Args>(args)...));
  return static_cast<Input&>(*inputs_.back());
}

Result<void> StepGraph::build(const StepBatch& batch) {
  const HParams& hp = model_.hp;
  // A layer takes about 40 nodes, and some per KV head and run of rows where attention is made of standard
  // ops.
  const SequenceCache& cache = batch.parts[0].sequence->cache;
  int64_t n_runs = 0, widest = 0;
  if (!all_by_kernels_) {
    n_runs = std::ssize(cache.blocks()) + std::ssize(cache.tail().parts());
    for (int64_t il = 0; il < hp.n_layer; ++il) widest = std::max(widest, cache.longest(il));
  }
  compute_.reserve_nodes(static_cast<size_t>(1024 + hp.n_layer * (64 + 8 * hp.largest().n_head_kv * n_runs)));
  CURDKV_TRY(ggml_context * ctx, compute_.begin());
  inputs_.clear();
  queries_.clear();
  const auto& tokens = add<TokensInput>(batch, decodes_drafts());
  ggml_tensor* out_rows = batch.last_only ? add<OutRowsInput>(batch).columns : nullptr;
  const auto& sequences = add<SequencesInput>(batch, hp.layers);
  const RaggedMask mask = {widest, batch.n_columns};
  ggml_tensor* mask_data = all_by_kernels_ || batch.n_columns == 1 ? nullptr : add<MaskInput>(mask).data;

  RowProducts rows(compute_, &tokens.n_row_columns);
  QuestionProducts questions(compute_, choices_.questions_kernel);
  ProductsBy of_question([&](ggml_context*, ggml_tensor* w, ggml_tensor* in) {
    // Of a question's columns the last of each part alone come to the end: fewer than any other product's.
    const bool last = batch.last_only && in->ne[1] == std::ssize(batch.parts);
    return last ? rows.multiply(ctx, w, in) : questions.multiply(ctx, w, in);
  });
  ProductsBy by_ggml(ggml_mul_mat);
  Products& of_kernels = batch.decoding ? static_cast<Products&>(rows) : of_question;
  Products& products = choices_.portable_attention ? by_ggml : of_kernels;
  const auto attend = [&](int64_t il, const Projections& p) {
    const LayerShape& shape = hp.layer(il);
    const AttentionLayer layer = {il, shape.n_group(), shape.kq_scale};
    if (uses_kernels(il)) {
      const int64_t most_blocks = sequences.most_blocks[static_cast<size_t>(il)];
      return ragged_attention_cpu(compute_, &sequences.attention, layer, most_blocks, p.q, p.k, p.v);
    }
    const PortableInputs inputs = {add<TailRowsInput>(batch, shape.n_head_kv).rows, mask_data};
    return ragged_attention_portable(compute_, batch.attention, layer, p.q, p.k, p.v, inputs, mask);
  };
  ggml_tensor* x = ggml_get_rows(ctx, model_.weights.token_embd, tokens.ids);
  for (int64_t il = 0; il < hp.n_layer; ++il) {
    x = build_layer(
        ctx, model_, il, x, tokens.positions, il + 1 == hp.n_layer ? out_rows : nullptr,
        [&](const Projections& p) {
          if (batch.n_queries > 0) {
            queries_.push_back(ggml_cont(
                ctx, ggml_view_3d(ctx, p.q, p.q->ne[0], p.q->ne[1], batch.n_queries, p.q->nb[1], p.q->nb[2],
                                  static_cast<size_t>(batch.query_column) * p.q->nb[2])));
            ggml_set_output(queries_.back());
            ggml_build_forward_expand(compute_.graph(), queries_.back());
          }
          return attend(il, p);
        },
        products);
  }
  logits_ = build_logits(ctx, model_, x, products);
  ggml_build_forward_expand(compute_.graph(), logits_.logits);
  CURDKV_CHECK(compute_.allocate());
  compute_.keep_graph_for(this);
  return {};
}

Result<void> StepGraph::finish(const StepBatch& batch) {
  fresh_logits_.resize(batch.parts.size());
  for (size_t i = 0; i < batch.parts.size(); ++i) {
    const StepPart& part = batch.parts[i];
    const int64_t n = std::ssize(part.tokens), first = batch.attention.spans[i].column;
    if (part.sink == nullptr) {
      const int64_t column = batch.last_only ? static_cast<int64_t>(i) : first + n - 1;
      CURDKV_CHECK(read_logits(logits_, column, fresh_logits_[i]));
      continue;
    }
    for (int64_t t = 0; t < n; ++t) {
      CURDKV_CHECK(read_logits(logits_, first + t, fresh_logits_[i]));
      (*part.sink)(part.sequence->n_tokens + t, fresh_logits_[i]);
    }
  }
  if (!queries_.empty()) keep_queries(batch);
  // From here on nothing fails.
  for (size_t i = 0; i < batch.parts.size(); ++i) {
    SequenceState& s = *batch.parts[i].sequence;
    const int64_t n = std::ssize(batch.parts[i].tokens);
    const int64_t n_recent = batch.parts[i].n_recent();
    s.cache.append(n, s.next_position);
    s.recent.append(n_recent, s.next_position + n - n_recent);
    s.n_tokens += n;
    s.next_position += n;
    s.logits.swap(fresh_logits_[i]);
  }
  return {};
}

// Copies them behind those the sequences hold, where there is room for them.
void StepGraph::keep_queries(const StepBatch& batch) {
  for (size_t i = 0; i < batch.parts.size(); ++i) {
    const AttentionSpan& span = batch.attention.spans[i];
    const int64_t n = batch.parts[i].n_recent(), first = span.column + span.n_new - n - batch.query_column;
    for (size_t il = 0; n > 0 && il < queries_.size(); ++il) {
      const size_t column = queries_[il]->nb[2];
      ggml_backend_tensor_get(queries_[il], batch.parts[i].sequence->recent.next(static_cast<int64_t>(il)),
                              static_cast<size_t>(first) * column, static_cast<size_t>(n) * column);
    }
  }
}

}  // namespace curdkv
