// A step over several sequences: questions, those together that one batch has room for, the others in chunks
// one after another; then all decoded tokens together.
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
  // What the last graph decodes changes nothing if it fails; the rest is taken back.
  struct Taken {
    StepPart part;
    std::optional<Sequence::Mark> before;  // none: a single token, which changes nothing if it fails
    void take_back() {
      if (before) part.sequence->rewind(std::move(*before));
    }
  };
  std::vector<Taken> in_turn, together;
  std::vector<StepPart> asked, at_once;
  size_t room = graph->asks_together() ? static_cast<size_t>(params.n_batch) : 0;
  for (const StepPart& p : parts) {
    if (p.decoded && (p.tokens.size() == 1 ? graph->decodes_together() : graph->decodes_drafts())) {
      at_once.push_back(p);
      continue;
    }
    const bool joins = !p.decoded && p.sink == nullptr && p.tokens.size() <= room;
    if (joins) room -= p.tokens.size();
    std::vector<Taken>& to = joins ? together : in_turn;
    to.push_back({p, {}});
    if (parts.size() > 1 || p.tokens.size() > 1) to.back().before = p.sequence->mark();
  }
  if (together.size() == 1) {  // which can be stopped at any time then
    in_turn.push_back(std::move(together.back()));
    together.clear();
  }
  size_t n_stopped = 0;
  auto done = guarded([&]() -> Result<void> {
    for (Taken& turn : in_turn) {
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
    for (const Taken& t : together) {
      if (is_stopped(t.part)) {
        ++n_stopped;
      } else {
        asked.push_back(t.part);
      }
    }
    if (!asked.empty()) CURDKV_CHECK(graph->run(asked));
    n_stopped += std::erase_if(at_once, is_stopped);
    return at_once.empty() ? Result<void>() : graph->run(at_once);
  });
  if (!done) {
    for (Taken& t : in_turn) t.take_back();
    for (Taken& t : together) t.take_back();
  }
  if (done && n_stopped == parts.size()) return Error{ErrorCode::cancelled, "stopped"};
  return done;
}

}  // namespace curdkv
