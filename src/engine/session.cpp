#include "curdkv/session.h"

#include <algorithm>

#include "base/format.h"
#include "base/guard.h"
#include "base/log_capture.h"
#include "base/try.h"
#include "engine/prefill.h"
#include "engine/session_impl.h"

namespace curdkv {
namespace {

Result<void> check_cache_type(ggml_type type, int64_t d_head) {
  if (d_head % ggml_blck_size(type) == 0) return {};
  return Error{ErrorCode::bad_argument,
               format("a %s cache needs head sizes that are multiples of %lld, not %lld",
                      ggml_type_name(type), (long long)ggml_blck_size(type), (long long)d_head)};
}

Result<void> check_params(const SessionParams& p) {
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

Result<ProductKernels> make_product_kernels(PrefillKernel choice) {
  ProductKernels kernels;
  if (choice == PrefillKernel::automatic || choice == PrefillKernel::int8)
    kernels.push_back(make_int8_kernel());
  if (choice == PrefillKernel::onednn) kernels.push_back(make_onednn_kernel());
  std::erase(kernels, nullptr);
  if (choice == PrefillKernel::int8 && kernels.empty()) {
    return Error{ErrorCode::bad_argument, "the int8 prefill kernel needs a processor with AVX-512 VNNI"};
  }
  if (choice == PrefillKernel::onednn && kernels.empty()) {
    return Error{ErrorCode::bad_argument, "this build has no oneDNN for the prefill kernel onednn"};
  }
  return kernels;
}

}  // namespace

std::span<const CacheTypeName> cache_types() {
  static constexpr CacheTypeName kNames[] = {
      {"f32", CacheType::f32},       {"f16", CacheType::f16},   {"bf16", CacheType::bf16},
      {"q8_0", CacheType::q8_0},     {"q4_0", CacheType::q4_0}, {"q4_1", CacheType::q4_1},
      {"iq4_nl", CacheType::iq4_nl}, {"q5_0", CacheType::q5_0}, {"q5_1", CacheType::q5_1}};
  return kNames;
}

ggml_type to_ggml(CacheType type) {
  switch (type) {
    case CacheType::f32:
      return GGML_TYPE_F32;
    case CacheType::f16:
      return GGML_TYPE_F16;
    case CacheType::bf16:
      return GGML_TYPE_BF16;
    case CacheType::q8_0:
      return GGML_TYPE_Q8_0;
    case CacheType::q4_0:
      return GGML_TYPE_Q4_0;
    case CacheType::q4_1:
      return GGML_TYPE_Q4_1;
    case CacheType::iq4_nl:
      return GGML_TYPE_IQ4_NL;
    case CacheType::q5_0:
      return GGML_TYPE_Q5_0;
    case CacheType::q5_1:
      return GGML_TYPE_Q5_1;
  }
  return GGML_TYPE_F16;
}

Result<Session> Session::create(const Model& model, const SessionParams& params) {
  return guarded([&]() -> Result<Session> {
    capture_logs();
    const HParams& hp = model.impl().hp;
    CURDKV_CHECK(check_params(params));
    const CacheShape shape = {hp.n_layer,  hp.n_head_kv,           hp.d_head_k,
                              hp.d_head_v, to_ggml(params.type_k), to_ggml(params.type_v)};
    CURDKV_CHECK(check_cache_type(shape.type_k, hp.d_head_k));
    CURDKV_CHECK(check_cache_type(shape.type_v, hp.d_head_v));
    auto impl = std::make_unique<Impl>(model, params);
    impl->n_ctx = params.n_ctx > 0 ? params.n_ctx : hp.n_ctx_train;
    CURDKV_TRY(impl->compute, Compute::create(model.impl().weights, params.n_threads, 0, params.stop));
    impl->state.cache = SequenceCache(shape, model.impl().weights.layer_device);
    impl->step.emplace(model.impl(), *impl->compute, params.portable_attention, false);
    CURDKV_TRY(impl->product_kernels, make_product_kernels(params.prefill_kernel));
    return Session(std::move(impl));
  });
}

Session::Session(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;
Session::~Session() = default;

Result<void> Session::Impl::check_tokens(std::span<const Token> tokens) const {
  const auto n = static_cast<int64_t>(tokens.size());
  if (state.next_position + n > n_ctx) {
    return Error{ErrorCode::bad_input, format("%lld tokens do not fit the context of %lld",
                                              (long long)(state.next_position + n), (long long)n_ctx)};
  }
  for (Token t : tokens) {
    if (t < 0 || t >= m().hp.n_vocab) {
      return Error{ErrorCode::bad_argument,
                   format("token %d is not in the vocabulary of %lld", t, (long long)m().hp.n_vocab)};
    }
  }
  return {};
}

Result<void> Session::Impl::check_prefill(std::span<const Token> tokens, const Press& press,
                                          const PrefillOptions& options) const {
  if (tokens.empty()) return Error{ErrorCode::bad_argument, "the context is empty"};
  if (state.n_tokens > 0) return Error{ErrorCode::bad_argument, "the session already holds a context"};
  CURDKV_CHECK(check_tokens(tokens));
  const int64_t n = static_cast<int64_t>(tokens.size()), n_context = n - options.n_question;
  if (options.n_question < 0 || n_context < 1) {
    return Error{ErrorCode::bad_argument, "a question must leave at least one token of context before it"};
  }
  if (press.needs_repeats() && options.repeats.empty()) {
    return Error{ErrorCode::bad_argument,
                 "press '" + press.name() + "' reads the context twice and was given nothing to repeat"};
  }
  for (const Repeat& r : options.repeats) {
    if (r.first < 0 || r.n < 1 || r.first + r.n > n_context || r.tokens.empty()) {
      return Error{ErrorCode::bad_argument, "a stretch to be repeated does not lie within the context"};
    }
    if (n + static_cast<int64_t>(r.tokens.size()) > n_ctx) {
      return Error{
          ErrorCode::bad_input,
          format("reading the context a second time behind itself, as kvzip does, takes %lld tokens, which "
                 "do not fit the context of %lld",
                 (long long)n + (long long)r.tokens.size(), (long long)n_ctx)};
    }
    for (Token t : r.tokens) {
      if (t < 0 || t >= m().hp.n_vocab)
        return Error{ErrorCode::bad_argument, "a repeat holds an unknown token"};
    }
  }
  return {};
}

void Session::Impl::reserve_nodes(int64_t n) {
  const HParams& hp = m().hp;
  bool portable = params.portable_attention;
  for (int64_t il = 0; il < hp.n_layer; ++il) portable = portable || !on_cpu(il);
  const int64_t per_layer = 64 + (portable ? 8 * hp.n_head_kv : 0);
  const int64_t n_tiles = std::min(params.n_batch, n) / kTileTokens;
  compute->reserve_nodes(static_cast<size_t>(1024 + hp.n_layer * per_layer + 8 * hp.n_head_kv + n / 64 +
                                             n * hp.n_head_kv / 256 + 16 * n_tiles));
}

Result<void> Session::Impl::extend(std::span<const Token> tokens, const LogitsSink& sink) {
  CURDKV_CHECK(check_tokens(tokens));
  const auto batch = static_cast<size_t>(round_up(params.n_batch, kTileTokens));
  // A last chunk of one token is no decoding: its bits must not depend on the chunk size.
  const bool decoding = tokens.size() == 1;
  for (size_t at = 0; at < tokens.size(); at += batch) {
    const StepPart part = {&state, tokens.subspan(at, std::min(batch, tokens.size() - at)),
                           sink ? &sink : nullptr};
    CURDKV_CHECK(step->run({&part, 1}, decoding));
  }
  return {};
}

Result<PrefillReport> Session::prefill(std::span<const Token> tokens, const Press& press,
                                       const PrefillOptions& options) {
  return guarded([&]() -> Result<PrefillReport> {
    const PrefillTarget target = {this, press};
    CURDKV_TRY(const auto reports, prefill_together({&target, 1}, tokens, options));
    return reports[0];
  });
}

Result<std::vector<PrefillReport>> prefill_together(std::span<const PrefillTarget> targets,
                                                    std::span<const Token> tokens,
                                                    const PrefillOptions& options) {
  bool begun = false;
  auto reports = guarded([&]() -> Result<std::vector<PrefillReport>> {
    if (targets.empty())
      return Error{ErrorCode::bad_argument, "there is no session to read the context into"};
    std::vector<PrefillInto> into;
    for (const PrefillTarget& t : targets) {
      Session::Impl& s = *t.session->impl_;
      const Session::Impl& first = *targets[0].session->impl_;
      const CacheShape &a = s.state.cache.shape(), &b = first.state.cache.shape();
      if (&s.m() != &first.m() || a.type_k != b.type_k || a.type_v != b.type_v) {
        return Error{ErrorCode::bad_argument,
                     "sessions that read together must be of one model and one cache type"};
      }
      CURDKV_CHECK(s.check_prefill(tokens, t.press, options));
      into.push_back({&s, &t.press});
    }
    begun = true;
    return Prefill(into, tokens, options).run();
  });
  if (!reports && begun) {
    for (const PrefillTarget& t : targets) t.session->clear();
  }
  return reports;
}

Result<void> Session::extend(std::span<const Token> tokens, const LogitsSink& sink) {
  return guarded([&] { return impl_->extend(tokens, sink); });
}

std::span<const float> Session::logits() const {
  return impl_->state.logits;
}

Session::Mark Session::mark() const {
  const SequenceState& s = impl_->state;
  Mark mark;
  mark.n_appended_ = s.cache.tail().length();
  mark.n_tokens_ = s.n_tokens;
  mark.next_position_ = s.next_position;
  mark.n_compressed_ = s.n_compressed;
  mark.logits_ = s.logits;
  return mark;
}

Result<void> Session::rewind(const Mark& mark) {
  SequenceState& s = impl_->state;
  if (mark.n_tokens_ > s.n_tokens || mark.n_appended_ > s.cache.tail().length()) {
    return Error{ErrorCode::bad_argument,
                 "the mark is not of this session, or the session was cleared since"};
  }
  if (mark.n_compressed_ != s.n_compressed) {
    return Error{ErrorCode::bad_argument, "the cache was compressed since the mark was taken"};
  }
  return guarded([&] {
    s.logits = mark.logits_;
    s.cache.truncate(mark.n_appended_);
    s.n_tokens = mark.n_tokens_;
    s.next_position = mark.next_position_;
  });
}

Result<void> Session::compress(const Press& press, int64_t budget) {
  return guarded([&] { return impl_->compress(press, budget); });
}

int64_t Session::longest_head() const {
  int64_t longest = 0;
  for (int64_t il = 0; il < impl_->m().hp.n_layer; ++il)
    longest = std::max(longest, impl_->state.cache.longest(il));
  return longest;
}

void Session::clear() {
  impl_->state.clear();
}
int64_t Session::n_tokens() const {
  return impl_->state.n_tokens;
}
int64_t Session::next_position() const {
  return impl_->state.next_position;
}
int64_t Session::n_ctx() const {
  return impl_->n_ctx;
}
std::vector<std::vector<int64_t>> Session::cache_lengths() const {
  return impl_->state.cache.lengths();
}
const std::vector<KeptTokens>& Session::kept_tokens() const {
  return impl_->state.kept;
}
size_t Session::kv_bytes() const {
  return impl_->state.cache.n_bytes();
}
size_t Session::kv_bytes_full(int64_t n_tokens) const {
  return impl_->state.cache.n_bytes_uncompressed(n_tokens);
}

}  // namespace curdkv
