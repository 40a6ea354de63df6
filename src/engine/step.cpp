// A step over several sequences: questions in chunks, one after another, then all decoded tokens together.
#include <algorithm>

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
  std::vector<StepPart> at_once;
  std::vector<std::pair<SequenceState*, Sequence::Mark>> before;
  // What one graph decodes changes nothing if it fails; the rest is taken back.
  const auto fits_in = [&](const StepPart& p) {
    return p.decoded && (p.tokens.size() == 1 ? graph->decodes_together() : graph->decodes_drafts());
  };
  for (const StepPart& p : parts) {
    if (!fits_in(p) && (parts.size() > 1 || p.tokens.size() > 1))
      before.emplace_back(p.sequence, p.sequence->mark());
  }
  size_t n_stopped = 0;
  auto done = guarded([&]() -> Result<void> {
    size_t taken_back = 0;
    for (const StepPart& p : parts) {
      if (fits_in(p)) continue;
      const size_t mark = taken_back++;
      compute->set_stop(p.stop);
      const auto one = is_stopped(p) ? Error{ErrorCode::cancelled, "stopped"}
                       : p.decoded   ? decode_in_turn(p)
                                     : ask(p);
      compute->set_stop(nullptr);
      if (one) continue;
      if (!is_stopped(p) || compute->cancelled()) return one;
      ++n_stopped;
      if (mark < before.size()) p.sequence->rewind(before[mark].second);
    }
    for (const StepPart& p : parts) {
      if (!fits_in(p)) continue;
      if (is_stopped(p)) {
        ++n_stopped;
      } else {
        at_once.push_back(p);
      }
    }
    return at_once.empty() ? Result<void>() : graph->run(at_once);
  });
  if (!done) {
    for (auto& [sequence, mark] : before) sequence->rewind(std::move(mark));
  }
  if (done && n_stopped == parts.size()) return Error{ErrorCode::cancelled, "stopped"};
  return done;
}

}  // namespace curdkv
