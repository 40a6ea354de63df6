#include "curdkv/batch.h"

#include <set>

#include "base/guard.h"
#include "base/try.h"
#include "engine/session_impl.h"

namespace curdkv {

struct BatchDecoder::Impl {
  Impl(const Model& shared_model, const SessionParams& session_params)
      : model(shared_model), params(session_params) {}

  Model model;
  SessionParams params;
  std::unique_ptr<Compute> compute;
  std::optional<Step> step;

  Result<void> decode(std::span<Session::Impl* const> sessions, std::span<const Token> next);
  Result<void> check(std::span<Session::Impl* const> sessions, std::span<const Token> next) const;
};

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

Result<void> BatchDecoder::Impl::decode(std::span<Session::Impl* const> sessions,
                                        std::span<const Token> next) {
  CURDKV_CHECK(check(sessions, next));
  if (compute == nullptr) {
    CURDKV_TRY(compute, Compute::create(model.impl().weights, params.n_threads, 0, params.stop));
    step.emplace(model.impl(), *compute, params.portable_attention, true);
  }
  std::vector<StepPart> parts;
  for (size_t i = 0; i < sessions.size(); ++i) parts.push_back({&sessions[i]->state, next.subspan(i, 1)});
  return step->run(parts, true);
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
