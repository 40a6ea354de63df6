// A step over several sequences: questions in chunks, one after another, then all decoded tokens together.
#include <algorithm>

#include "base/guard.h"
#include "base/try.h"
#include "engine/executor_impl.h"

namespace curdkv {
namespace {

// A sequence before a step, for when it fails.
class Before {
 public:
  explicit Before(SequenceState& s)
      : s_(&s),
        tail_(s.cache.tail().length()),
        n_tokens_(s.n_tokens),
        next_position_(s.next_position),
        logits_(s.logits) {}
  void restore() noexcept {
    s_->cache.truncate(tail_);
    s_->n_tokens = n_tokens_;
    s_->next_position = next_position_;
    s_->logits.swap(logits_);
  }

 private:
  SequenceState* s_;
  int64_t tail_, n_tokens_, next_position_;
  std::vector<float> logits_;
};

}  // namespace

Result<void> Executor::Impl::ask(const StepPart& part) {
  const auto batch = static_cast<size_t>(round_up(params.n_batch, kTileTokens));
  for (size_t at = 0; at < part.tokens.size(); at += batch) {
    const StepPart chunk = {part.sequence, part.tokens.subspan(at, std::min(batch, part.tokens.size() - at)),
                            part.sink};
    CURDKV_CHECK(graph->run({&chunk, 1}, false));
  }
  return {};
}

// One token after the other.
Result<void> Executor::Impl::decode_in_turn(const StepPart& part) {
  for (size_t i = 0; i < part.tokens.size(); ++i) {
    const StepPart one = {part.sequence, part.tokens.subspan(i, 1), part.sink, true};
    CURDKV_CHECK(graph->run({&one, 1}, true));
  }
  return {};
}

Result<void> Executor::Impl::step(std::span<const StepPart> parts) {
  std::vector<StepPart> at_once;
  std::vector<Before> before;
  // What one graph decodes changes nothing if it fails; the rest is taken back.
  const auto fits_in = [&](const StepPart& p) {
    return p.decoded && (p.tokens.size() == 1 ? graph->decodes_together() : graph->decodes_drafts());
  };
  for (const StepPart& p : parts) {
    if (fits_in(p)) {
      at_once.push_back(p);
    } else if (parts.size() > 1 || p.tokens.size() > 1) {
      before.emplace_back(*p.sequence);
    }
  }
  auto done = guarded([&]() -> Result<void> {
    for (const StepPart& p : parts) {
      if (!fits_in(p)) CURDKV_CHECK(p.decoded ? decode_in_turn(p) : ask(p));
    }
    return at_once.empty() ? Result<void>() : graph->run(at_once, true);
  });
  if (!done) {
    for (Before& b : before) b.restore();
  }
  return done;
}

}  // namespace curdkv
