// A step over several sequences: questions in chunks, one after another, then all decoded tokens together.
#include <algorithm>
#include <optional>

#include "base/guard.h"
#include "base/try.h"
#include "engine/executor_impl.h"

namespace curdkv {
namespace {

bool is_stopped(const StepPart& part) {
  return part.stop != nullptr && part.stop->load(std::memory_order_relaxed);
}

}  // namespace

Result<void> Executor::Impl::ask(const StepPart& part) {
  const auto batch = static_cast<size_t>(round_up(params.n_batch, kTileTokens));
  for (size_t at = 0; at < part.tokens.size(); at += batch) {
    const StepPart chunk = {part.sequence, part.tokens.subspan(at, std::min(batch, part.tokens.size() - at)),
                            part.sink};
    CURDKV_CHECK(graph->run({&chunk, 1}));
  }
  return {};
}

// One token after the other.
Result<void> Executor::Impl::decode_in_turn(const StepPart& part) {
  for (size_t i = 0; i < part.tokens.size(); ++i) {
    const StepPart one = {part.sequence, part.tokens.subspan(i, 1), part.sink, true};
    CURDKV_CHECK(graph->run({&one, 1}));
  }
  return {};
}

Result<void> Executor::Impl::step(std::span<const StepPart> parts) {
  // What one graph decodes changes nothing if it fails; the rest is taken back.
  struct InTurn {
    const StepPart& part;
    std::optional<Sequence::Mark> before;  // none: a single token, which changes nothing if it fails
    void take_back() {
      if (before) part.sequence->rewind(std::move(*before));
    }
  };
  std::vector<InTurn> in_turn;
  std::vector<StepPart> at_once;
  for (const StepPart& p : parts) {
    if (p.decoded && (p.tokens.size() == 1 ? graph->decodes_together() : graph->decodes_drafts())) {
      at_once.push_back(p);
    } else {
      in_turn.push_back({p, {}});
      if (parts.size() > 1 || p.tokens.size() > 1) in_turn.back().before = p.sequence->mark();
    }
  }
  size_t n_stopped = 0;
  auto done = guarded([&]() -> Result<void> {
    for (InTurn& turn : in_turn) {
      const StepPart& p = turn.part;
      compute->set_stop(p.stop);
      const auto one = is_stopped(p) ? Error{ErrorCode::cancelled, "stopped"}
                       : p.decoded   ? decode_in_turn(p)
                                     : ask(p);
      compute->set_stop(nullptr);
      if (one) continue;
      if (!is_stopped(p) || compute->cancelled()) return one;
      turn.take_back();
      turn.before.reset();
      ++n_stopped;
    }
    n_stopped += std::erase_if(at_once, is_stopped);
    return at_once.empty() ? Result<void>() : graph->run(at_once);
  });
  if (!done) {
    for (InTurn& turn : in_turn) turn.take_back();
  }
  if (done && n_stopped == parts.size()) return Error{ErrorCode::cancelled, "stopped"};
  return done;
}

}  // namespace curdkv
