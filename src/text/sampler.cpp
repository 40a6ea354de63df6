#include <llama-cpp.h>

#include <cmath>

#include "base/guard.h"
#include "base/log_capture.h"
#include "curdkv/text.h"

namespace curdkv {

struct Sampler::Impl {
  llama_sampler_ptr chain;
  std::vector<llama_token_data> candidates;
};

Result<Sampler> Sampler::create(const SamplingParams& p) {
  return guarded([&]() -> Result<Sampler> {
    capture_logs();
    const auto in_unit = [](float x) { return x >= 0 && x <= 1; };
    if (!(p.temperature >= 0) || !std::isfinite(p.temperature) || p.top_k < 0 || !in_unit(p.top_p) ||
        !in_unit(p.min_p)) {
      return Error{ErrorCode::bad_argument,
                   "temperature and top-k must be >= 0, top-p and min-p between 0 and 1"};
    }
    auto impl = std::make_unique<Impl>();
    impl->chain.reset(llama_sampler_chain_init(llama_sampler_chain_default_params()));
    const auto add = [&](llama_sampler* s) {
      llama_sampler_ptr owned(s);  // until the chain has taken it, for which it needs memory
      llama_sampler_chain_add(impl->chain.get(), s);
      owned.release();
    };
    if (p.temperature == 0) {
      add(llama_sampler_init_greedy());
    } else {
      if (p.top_k > 0) add(llama_sampler_init_top_k(p.top_k));
      add(llama_sampler_init_top_p(p.top_p, 1));
      add(llama_sampler_init_min_p(p.min_p, 1));
      add(llama_sampler_init_temp(p.temperature));
      add(llama_sampler_init_dist(p.seed));
    }
    return Sampler(std::move(impl));
  });
}

Token Sampler::sample(std::span<const float> logits) {
  auto& c = impl_->candidates;
  c.resize(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) c[i] = {static_cast<llama_token>(i), logits[i], 0.0f};
  llama_token_data_array array = {c.data(), c.size(), -1, false};
  llama_sampler_apply(impl_->chain.get(), &array);
  const Token token = array.data[array.selected < 0 ? 0 : array.selected].id;
  llama_sampler_accept(impl_->chain.get(), token);
  return token;
}

Sampler::Sampler(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Sampler::Sampler(Sampler&&) noexcept = default;
Sampler& Sampler::operator=(Sampler&&) noexcept = default;
Sampler::~Sampler() = default;

}  // namespace curdkv
