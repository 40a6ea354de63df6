#include "server/prompt_tails.h"

#include <algorithm>

#include "base/try.h"

namespace curdkv::server {
namespace {

constexpr int64_t kWorthIt = 16;  // tokens

}  // namespace

Result<std::optional<PromptTails::Found>> PromptTails::find(const std::string& place,
                                                            std::span<const Token> tokens) {
  auto best = tails_.end();
  int64_t n_best = kWorthIt - 1;
  for (auto it = tails_.begin(); it != tails_.end(); ++it) {
    if (it->place != place) continue;
    const auto n = std::mismatch(it->tokens.begin(), it->tokens.end(), tokens.begin(), tokens.end()).first -
                   it->tokens.begin();
    if (n > n_best) {
      best = it;
      n_best = n;
    }
  }
  if (best == tails_.end()) return std::optional<Found>();
  tails_.splice(tails_.begin(), tails_, best);
  Sequence sequence = best->sequence.fork();
  int64_t n = n_best;
  if (n < std::ssize(best->tokens)) {
    // Something must follow for there to be logits.
    n = std::min(n, std::ssize(tokens) - 1);
    CURDKV_CHECK(sequence.drop_last(std::ssize(best->tokens) - n, {}));
  }
  return std::optional<Found>({std::move(sequence), n});
}

void PromptTails::keep(const std::string& place, std::span<const Token> tokens, const Sequence& sequence) {
  if (std::ssize(tokens) < kWorthIt) return;
  const auto begins_it = [&](const Tail& t) {
    return t.place == place && t.tokens.size() <= tokens.size() &&
           std::equal(t.tokens.begin(), t.tokens.end(), tokens.begin());
  };
  tails_.remove_if(begins_it);
  tails_.push_front({place, {tokens.begin(), tokens.end()}, sequence.fork()});
  if (tails_.size() > most_) tails_.pop_back();
}

void PromptTails::drop_if(const std::function<bool(const std::string& place)>& must_go) {
  tails_.remove_if([&](const Tail& t) { return must_go(t.place); });
}

}  // namespace curdkv::server
