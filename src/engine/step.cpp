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

Result<void> Executor::Impl::step(std::span<const StepPart> parts) {
  std::vector<StepPart> decoded;
  std::vector<Before> before;
  // Tokens decoded together change nothing if they fail; what comes in several graphs is taken back.
  const bool at_once = graph->decodes_together();
  for (const StepPart& p : parts) {
    const bool one = p.tokens.size() == 1;
    if (one) decoded.push_back(p);
    if ((!one || !at_once) && (parts.size() > 1 || !one)) before.emplace_back(*p.sequence);
  }
  const auto work = [&]() -> Result<void> {
    for (const StepPart& p : parts) {
      if (p.tokens.size() > 1) CURDKV_CHECK(ask(p));
    }
    if (at_once) return decoded.empty() ? Result<void>() : graph->run(decoded, true);
    for (const StepPart& p : decoded) CURDKV_CHECK(graph->run({&p, 1}, true));
    return {};
  };
  auto done = guarded(work);
  if (!done) {
    for (Before& b : before) b.restore();
  }
  return done;
}

}  // namespace curdkv
