#include "curdkv/executor.h"

#include <algorithm>
#include <set>

#include "base/format.h"
#include "base/guard.h"
#include "base/log_capture.h"
#include "base/try.h"
#include "cache/cache_type.h"
#include "engine/executor_impl.h"
#include "engine/layer_observer.h"
#include "engine/product_kernels.h"
#include "engine/read.h"
#include "engine/shrink.h"

namespace curdkv {
namespace {

Result<void> check_cache_type(ggml_type type, int64_t d_head) {
  if (d_head % ggml_blck_size(type) == 0) return {};
  return Error{ErrorCode::bad_argument,
               format("a %s cache needs head sizes that are multiples of %lld, not %lld",
                      ggml_type_name(type), (long long)ggml_blck_size(type), (long long)d_head)};
}

Result<void> check_params(const ExecutorParams& p) {
  if (p.n_threads < 1 || p.n_threads > GGML_MAX_N_THREADS) {
    return Error{ErrorCode::bad_argument,
                 format("the number of threads must be 1 to %d", GGML_MAX_N_THREADS)};
  }
  if (p.n_batch < 1 || p.n_batch > kMostTokens) {
    return Error{ErrorCode::bad_argument,
                 format("the batch must hold 1 to %lld tokens", (long long)kMostTokens)};
  }
  if (p.n_ctx < 0 || p.n_ctx > kMostTokens) {
    return Error{ErrorCode::bad_argument,
                 format("the context must hold 1 to %lld tokens", (long long)kMostTokens)};
  }
  return {};
}

Result<void> finish(Job& job) {
  for (;;) {
    CURDKV_TRY(const bool done, job.advance());
    if (done) return {};
  }
}

}  // namespace

Result<Executor> Executor::create(const Model& model, const ExecutorParams& params) {
  return guarded([&]() -> Result<Executor> {
    capture_logs();
    const HParams& hp = model.impl().hp;
    CURDKV_CHECK(check_params(params));
    auto impl = std::make_unique<Impl>(model, params);
    for (const LayerShape& l : hp.layers) {
      impl->shapes.push_back(
          {l.n_head_kv, l.d_head_k, l.d_head_v, to_ggml(params.type_k), to_ggml(params.type_v)});
      CURDKV_CHECK(check_cache_type(impl->shapes.back().type_k, l.d_head_k));
      CURDKV_CHECK(check_cache_type(impl->shapes.back().type_v, l.d_head_v));
    }
    impl->n_ctx = params.n_ctx > 0 ? params.n_ctx : hp.n_ctx_train;
    CURDKV_TRY(impl->compute, Compute::create(model.impl().weights, params.n_threads, 0, params.stop));
    impl->tiles = tiles_for(params.prefill_kernel);
    CURDKV_TRY(impl->product_kernels, make_product_kernels(params.prefill_kernel, impl->tiles));
    const bool by_int8 = params.prefill_kernel != PrefillKernel::onednn && !impl->product_kernels.empty();
    // In 8 bits, which is the last choice.
    const ProductKernel* questions = by_int8 ? impl->product_kernels.back().get() : nullptr;
    impl->graph.emplace(model.impl(), *impl->compute,
                        StepGraph::Choices{params.portable_attention, params.in_company, questions});
    return Executor(std::move(impl));
  });
}

Executor::Executor(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Executor::Executor(Executor&&) noexcept = default;
Executor& Executor::operator=(Executor&&) noexcept = default;
Executor::~Executor() = default;

Sequence Executor::sequence() const {
  const SequenceCache empty(impl_->shapes, impl_->m().weights.layer_device);
  return Sequence(std::make_unique<SequenceState>(impl_->model, empty));
}

Result<void> Executor::Impl::check_sequence(const SequenceState& sequence) const {
  const CacheShape &its = sequence.cache.shape(0), &ours = shapes[0];
  if (&sequence.model.impl() != &m() || its.type_k != ours.type_k || its.type_v != ours.type_v) {
    return Error{ErrorCode::bad_argument, "the sequence is of another model or cache type than the executor"};
  }
  for (int64_t il = 0; il < m().hp.n_layer; ++il) {
    if (sequence.cache.has_packed(il) && (!on_cpu(il) || params.portable_attention))
      return Error{ErrorCode::bad_argument,
                   "the sequence holds packed rows, which only the CPU's own attention reads (-ngl 0)"};
  }
  return {};
}

Result<void> Executor::Impl::check_tokens(const SequenceState& sequence,
                                          std::span<const Token> tokens) const {
  const auto n = static_cast<int64_t>(tokens.size());
  if (sequence.next_position + n > n_ctx) {
    return Error{ErrorCode::bad_input, format("%lld tokens do not fit the context of %lld",
                                              (long long)(sequence.next_position + n), (long long)n_ctx)};
  }
  for (Token t : tokens) {
    if (t < 0 || t >= m().hp.n_vocab) {
      return Error{ErrorCode::bad_argument,
                   format("token %d is not in the vocabulary of %lld", t, (long long)m().hp.n_vocab)};
    }
  }
  return {};
}

Result<void> Executor::Impl::check_read(const SequenceState& sequence, std::span<const Token> tokens,
                                        int64_t n_question) const {
  if (tokens.empty()) return Error{ErrorCode::bad_argument, "the context is empty"};
  CURDKV_CHECK(check_sequence(sequence));
  CURDKV_CHECK(check_tokens(sequence, tokens));
  if (n_question < 0 || n_question >= std::ssize(tokens)) {
    return Error{ErrorCode::bad_argument, "a question must leave at least one token of context before it"};
  }
  return {};
}

Result<void> Executor::Impl::check_rows(const Press& press) const {
  const bool f16 = shapes[0].type_k == GGML_TYPE_F16 && shapes[0].type_v == GGML_TYPE_F16;
  if (!press.packs()) {
    return f16 || !press.counts_bytes()
               ? Result<void>()
               : Error{ErrorCode::bad_argument,
                       "a share of bytes is of F16 rows, or of packed ones (-ctk q4)"};
  }
  if (!f16) {
    return Error{
        ErrorCode::bad_argument,
        "press '" + press.spec() + "' packs the rows it keeps: the cache type for others must be f16"};
  }
  for (int64_t il = 0; il < m().hp.n_layer; ++il) {
    if (!on_cpu(il) || params.portable_attention) {
      return Error{ErrorCode::bad_argument, "press '" + press.spec() +
                                                "' packs rows, which only the CPU's own "
                                                "attention reads: keep all layers there (-ngl 0)"};
    }
    const CacheShape& s = shapes[static_cast<size_t>(il)];
    if (std::max(s.d_head_k, s.d_head_v) > kMostRowSize) {
      return Error{ErrorCode::bad_argument,
                   format("packed rows have at most %lld elements, not %lld", (long long)kMostRowSize,
                          (long long)std::max(s.d_head_k, s.d_head_v))};
    }
  }
  return {};
}

Result<std::vector<Repeat>> Executor::Impl::make_repeats(const SequenceState& sequence,
                                                         std::span<const Token> tokens,
                                                         int64_t n_question) const {
  if (!params.repeats) {
    return Error{ErrorCode::bad_argument,
                 "a press that reads the context twice, as kvzip does, needs an executor that knows what to "
                 "repeat (Engine::executor, or ExecutorParams::repeats)"};
  }
  const int64_t n = std::ssize(tokens), n_context = n - n_question;
  CURDKV_TRY(std::vector<Repeat> repeats, params.repeats(tokens.first(static_cast<size_t>(n_context))));
  if (repeats.empty()) {
    return Error{ErrorCode::bad_argument,
                 "a press that reads the context twice, as kvzip does, was given nothing to repeat"};
  }
  for (const Repeat& r : repeats) {
    if (r.first < 0 || r.n < 1 || r.first + r.n > n_context || r.tokens.empty()) {
      return Error{ErrorCode::bad_argument, "a stretch to be repeated does not lie within the context"};
    }
    if (sequence.next_position + n + static_cast<int64_t>(r.tokens.size()) > n_ctx) {
      return Error{
          ErrorCode::bad_input,
          format("reading the context a second time behind itself, as kvzip does, takes %lld tokens, which "
                 "do not fit the context of %lld",
                 (long long)(sequence.next_position + n) + (long long)r.tokens.size(), (long long)n_ctx)};
    }
    for (Token t : r.tokens) {
      if (t < 0 || t >= m().hp.n_vocab)
        return Error{ErrorCode::bad_argument, "a repeat holds an unknown token"};
    }
  }
  return repeats;
}

void Executor::Impl::reserve_nodes(int64_t n) {
  const HParams& hp = m().hp;
  bool portable = params.portable_attention;
  for (int64_t il = 0; il < hp.n_layer; ++il) portable = portable || !on_cpu(il);
  const int64_t n_head_kv = hp.largest().n_head_kv, per_layer = 64 + (portable ? 8 * n_head_kv : 0);
  const int64_t n_tiles = std::min(params.n_batch, n) / kTileTokens;
  compute->reserve_nodes(static_cast<size_t>(1024 + hp.n_layer * per_layer + 8 * n_head_kv + n / 64 +
                                             n * n_head_kv / 256 + 16 * n_tiles));
}

Result<void> Executor::Impl::check_compress(const SequenceState& sequence, const Press& press,
                                            int64_t budget) const {
  CURDKV_CHECK(check_sequence(sequence));
  CURDKV_CHECK(press.check_decode_budget(budget));
  if (press.n_recent_queries() <= sequence.recent.capacity()) return {};
  return Error{
      ErrorCode::bad_argument,
      format("press '%s' looks at the latest %lld tokens' queries, which were not asked for when the "
             "sequence was read",
             press.name().c_str(), (long long)press.n_recent_queries())};
}

Job::Job(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Job::Job(Job&&) noexcept = default;
Job& Job::operator=(Job&&) noexcept = default;
Job::~Job() = default;

Result<bool> Job::advance() {
  if (impl_->done) return true;
  if (impl_->failed) return *impl_->failed;
  impl_->e_.compute->set_stop(impl_->stop);
  auto done = guarded([&] { return impl_->advance(); });
  impl_->e_.compute->set_stop(nullptr);
  if (done) impl_->done = *done;
  if (!done) impl_->failed = done.error();
  return done;
}

std::span<const ReadReport> Job::reports() const {
  return impl_->reports;
}

Result<Job> Executor::begin_read(std::span<const ReadTarget> targets, std::span<const Token> tokens,
                                 const ReadOptions& options) {
  return guarded([&]() -> Result<Job> {
    if (targets.empty())
      return Error{ErrorCode::bad_argument, "there is no sequence to read the context into"};
    std::vector<ReadInto> into;
    bool twice = options.observer != nullptr && options.observer->needs().reconstruction;
    for (const ReadTarget& t : targets) {
      SequenceState& state = *t.sequence->state_;
      CURDKV_CHECK(impl_->check_read(state, tokens, options.n_question));
      CURDKV_CHECK(impl_->check_rows(t.press));
      twice = twice || t.press.needs_repeats();
      if (targets.size() > 1 && state.n_tokens > 0) {
        return Error{ErrorCode::bad_argument, "one reading into several sequences needs them empty"};
      }
      into.push_back({&state, t.press});
    }
    std::vector<Repeat> repeats;
    if (twice) {
      CURDKV_TRY(repeats, impl_->make_repeats(*into[0].sequence, tokens, options.n_question));
    }
    return Job(std::make_unique<ReadJob>(*impl_, std::move(into), tokens, std::move(repeats), options));
  });
}

Result<Job> Executor::begin_compress(Sequence& sequence, const Press& press, int64_t budget) {
  return guarded([&]() -> Result<Job> {
    CURDKV_CHECK(impl_->check_compress(*sequence.state_, press, budget));
    return Job(std::make_unique<ShrinkJob>(*impl_, *sequence.state_, press, budget));
  });
}

Result<std::vector<ReadReport>> Executor::read_together(std::span<const ReadTarget> targets,
                                                        std::span<const Token> tokens,
                                                        const ReadOptions& options) {
  return guarded([&]() -> Result<std::vector<ReadReport>> {
    CURDKV_TRY(Job job, begin_read(targets, tokens, options));
    CURDKV_CHECK(finish(job));
    return std::vector<ReadReport>(job.reports().begin(), job.reports().end());
  });
}

Result<ReadReport> Executor::read(Sequence& sequence, std::span<const Token> tokens, const Press& press,
                                  const ReadOptions& options) {
  return guarded([&]() -> Result<ReadReport> {
    const ReadTarget target = {&sequence, press};
    CURDKV_TRY(const auto reports, read_together({&target, 1}, tokens, options));
    return reports[0];
  });
}

Result<void> Executor::step(std::span<const Span> spans) {
  return guarded([&]() -> Result<void> {
    std::vector<StepPart> parts;
    std::set<const SequenceState*> seen;
    if (spans.empty()) return Error{ErrorCode::bad_argument, "a step takes at least one sequence"};
    for (const Span& span : spans) {
      SequenceState& state = *span.sequence->state_;
      CURDKV_CHECK(impl_->check_sequence(state));
      CURDKV_CHECK(impl_->check_tokens(state, span.tokens));
      if (span.tokens.empty())
        return Error{ErrorCode::bad_argument, "a step takes at least one token of each sequence"};
      if (!seen.insert(&state).second) return Error{ErrorCode::bad_argument, "a sequence is twice in a step"};
      parts.push_back({&state, span.tokens, span.sink, span.decoded || span.tokens.size() == 1, span.stop});
    }
    return impl_->step(parts);
  });
}

Result<void> Executor::extend(Sequence& sequence, std::span<const Token> tokens, const LogitsSink& sink) {
  if (tokens.empty()) return {};
  const Span span = {&sequence, tokens, sink ? &sink : nullptr};
  return step({&span, 1});
}

Result<void> Executor::compress(Sequence& sequence, const Press& press, int64_t budget) {
  return guarded([&]() -> Result<void> {
    CURDKV_TRY(Job job, begin_compress(sequence, press, budget));
    return finish(job);
  });
}

bool Executor::decodes_drafts() const {
  return impl_->graph->decodes_drafts();
}
int64_t Executor::n_ctx() const {
  return impl_->n_ctx;
}
size_t Executor::kv_bytes_full(int64_t n_tokens) const {
  return impl_->bytes_uncompressed(n_tokens);
}

}  // namespace curdkv
