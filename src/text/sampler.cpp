#include <llama-cpp.h>

#include <cmath>

#include "base/guard.h"
#include "base/log_capture.h"
#include "base/try.h"
#include "curdkv/text.h"
#include "text/tokenizer_impl.h"

namespace curdkv {
namespace {

Result<void> check(const SamplingParams& p) {
  const auto in_unit = [](float x) { return x >= 0 && x <= 1; };
  if (!(p.temperature >= 0) || !std::isfinite(p.temperature) || p.top_k < 0 || !in_unit(p.top_p) ||
      !in_unit(p.min_p) || !in_unit(p.typical_p)) {
    return Error{ErrorCode::bad_argument,
                 "temperature and top-k must be >= 0, top-p, min-p and typical-p between 0 and 1"};
  }
  const auto small = [](float x) { return std::abs(x) <= 100; };  // false for NaN
  if (!small(p.repeat_penalty) || p.repeat_penalty < 0.01f || !small(p.frequency_penalty) ||
      !small(p.presence_penalty) || p.repeat_last_n < -1) {
    return Error{
        ErrorCode::bad_argument,
        "the repeat penalty must be between 0.01 and 100, those of frequency and presence between -100 and "
        "100, and the tokens looked at -1 or more"};
  }
  for (const auto& [token, bias] : p.logit_bias) {
    if (token < 0 || std::isnan(bias))
      return Error{ErrorCode::bad_argument, "a bias of no token or no number"};
  }
  return {};
}

// Penalties look at what was generated, however long that was.
constexpr int32_t kWholeAnswer = 1 << 16;

}  // namespace

struct Sampler::Impl {
  llama_sampler_ptr chain, grammar;
  std::vector<llama_token_data> candidates;

  // Takes ownership, also where memory runs out meanwhile.
  void add(llama_sampler* s) {
    llama_sampler_ptr owned(s);
    llama_sampler_chain_add(chain.get(), s);
    owned.release();
  }
  void add_chain(const SamplingParams& p, const llama_vocab* vocab);
  Result<void> add_grammar(const Constraint& constraint, const llama_vocab* vocab);
  Token choose(std::span<const float> logits, bool by_grammar);
  bool allows(Token token) const;
};

void Sampler::Impl::add_chain(const SamplingParams& p, const llama_vocab* vocab) {
  chain.reset(llama_sampler_chain_init(llama_sampler_chain_default_params()));
  const int32_t n_vocab = vocab == nullptr ? 0 : llama_vocab_n_tokens(vocab);
  if (!p.logit_bias.empty() && vocab != nullptr) {
    std::vector<llama_logit_bias> biases;
    for (const auto& [token, bias] : p.logit_bias) {
      if (token < n_vocab) biases.push_back({token, bias});
    }
    add(llama_sampler_init_logit_bias(n_vocab, static_cast<int32_t>(biases.size()), biases.data()));
  }
  if (vocab != nullptr && (p.repeat_penalty != 1 || p.frequency_penalty != 0 || p.presence_penalty != 0)) {
    const int32_t n_last = p.repeat_last_n < 0 ? kWholeAnswer : std::min(p.repeat_last_n, kWholeAnswer);
    add(llama_sampler_init_penalties(n_vocab, n_last, p.repeat_penalty, p.frequency_penalty,
                                     p.presence_penalty));
  }
  if (p.temperature == 0) {
    add(llama_sampler_init_greedy());
    return;
  }
  if (p.top_k > 0) add(llama_sampler_init_top_k(p.top_k));
  if (p.typical_p < 1) add(llama_sampler_init_typical(p.typical_p, 1));
  add(llama_sampler_init_top_p(p.top_p, 1));
  add(llama_sampler_init_min_p(p.min_p, 1));
  add(llama_sampler_init_temp(p.temperature));
  add(llama_sampler_init_dist(p.seed));
}

Result<void> Sampler::Impl::add_grammar(const Constraint& c, const llama_vocab* vocab) {
  take_log_error();
  const auto made = guarded([&] {
    if (c.lazy) {
      std::vector<const char*> patterns;
      for (const std::string& p : c.trigger_patterns) patterns.push_back(p.c_str());
      grammar.reset(llama_sampler_init_grammar_lazy_patterns(
          vocab, c.grammar.c_str(), "root", patterns.data(), patterns.size(), c.trigger_tokens.data(),
          c.trigger_tokens.size()));
    } else {
      grammar.reset(llama_sampler_init_grammar(vocab, c.grammar.c_str(), "root"));
    }
    if (grammar == nullptr) return;
    for (const Token t : c.prefill) llama_sampler_accept(grammar.get(), t);
  });
  if (made && grammar != nullptr) return {};
  if (!made && made.error().code == ErrorCode::out_of_memory) return made.error();
  const std::string why = made ? take_log_error() : made.error().message;
  return Error{ErrorCode::bad_argument, "the grammar cannot be used" + (why.empty() ? "" : ": " + why)};
}

Result<Sampler> Sampler::create(const SamplingParams& p) {
  return guarded([&]() -> Result<Sampler> {
    capture_logs();
    CURDKV_CHECK(check(p));
    auto impl = std::make_unique<Impl>();
    impl->add_chain(p, nullptr);
    return Sampler(std::move(impl));
  });
}

Result<Sampler> Sampler::create(const SamplingParams& p, const Tokenizer& tokenizer,
                                const Constraint& constraint) {
  return guarded([&]() -> Result<Sampler> {
    capture_logs();
    CURDKV_CHECK(check(p));
    auto impl = std::make_unique<Impl>();
    const llama_vocab* vocab = tokenizer.impl().vocab;
    impl->add_chain(p, vocab);
    if (!constraint.grammar.empty()) CURDKV_CHECK(impl->add_grammar(constraint, vocab));
    return Sampler(std::move(impl));
  });
}

Token Sampler::Impl::choose(std::span<const float> logits, bool by_grammar) {
  candidates.resize(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) candidates[i] = {static_cast<llama_token>(i), logits[i], 0.0f};
  llama_token_data_array array = {candidates.data(), candidates.size(), -1, false};
  if (by_grammar) llama_sampler_apply(grammar.get(), &array);
  llama_sampler_apply(chain.get(), &array);
  return array.data[array.selected < 0 ? 0 : array.selected].id;
}

bool Sampler::Impl::allows(Token token) const {
  llama_token_data one = {token, 1.0f, 0.0f};
  llama_token_data_array array = {&one, 1, -1, false};
  llama_sampler_apply(grammar.get(), &array);
  return one.logit != -INFINITY;
}

// A grammar looks at one token in a fraction of the time it takes for all of them, and most of the time that
// one is allowed.
Token Sampler::sample(std::span<const float> logits) {
  Impl& s = *impl_;
  Token token = s.choose(logits, false);
  if (s.grammar != nullptr) {
    if (!s.allows(token)) token = s.choose(logits, true);
    llama_sampler_accept(s.grammar.get(), token);
  }
  llama_sampler_accept(s.chain.get(), token);
  return token;
}

Sampler::Sampler(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Sampler::Sampler(Sampler&&) noexcept = default;
Sampler& Sampler::operator=(Sampler&&) noexcept = default;
Sampler::~Sampler() = default;

}  // namespace curdkv
