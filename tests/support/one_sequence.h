// A sequence with an executor of its own: what most tests compute with.
#pragma once

#include "base/guard.h"
#include "curdkv/executor.h"
#include "support/must.h"

namespace curdkv::testing {

struct OneSequence {
  Executor executor;
  Sequence sequence;

  static Result<OneSequence> create(const Model& model, const ExecutorParams& params) {
    return guarded([&]() -> Result<OneSequence> {
      auto made = Executor::create(model, params);
      if (!made) return made.error();
      Sequence empty = made->sequence();
      return OneSequence{std::move(*made), std::move(empty)};
    });
  }

  Result<ReadReport> read(std::span<const Token> tokens, const Press& press,
                          const ReadOptions& options = {}) {
    return executor.read(sequence, tokens, press, options);
  }
  Result<void> extend(std::span<const Token> tokens, const LogitsSink& sink = {}) {
    return executor.extend(sequence, tokens, sink);
  }
  Result<void> compress(const Press& press, int64_t budget) {
    return executor.compress(sequence, press, budget);
  }
  Result<void> rewind(const Sequence::Mark& mark) { return sequence.rewind(mark); }
  Sequence::Mark mark() const { return sequence.mark(); }
  void clear() { sequence.clear(); }

  std::span<const float> logits() const { return sequence.logits(); }
  int64_t n_tokens() const { return sequence.n_tokens(); }
  int64_t next_position() const { return sequence.next_position(); }
  int64_t longest_head() const { return sequence.longest_head(); }
  int64_t n_ctx() const { return executor.n_ctx(); }
  std::vector<std::vector<int64_t>> cache_lengths() const { return sequence.cache_lengths(); }
  std::vector<std::vector<std::vector<int32_t>>> kept_tokens() const { return sequence.kept_tokens(); }
  size_t kv_bytes() const { return sequence.kv_bytes(); }
  size_t kv_bytes_full(int64_t n) const { return executor.kv_bytes_full(n); }
};

// Appends tokens[i] to *sequences[i], all in one step.
inline Result<void> decode_together(Executor& executor, std::span<Sequence* const> sequences,
                                    std::span<const Token> tokens) {
  return guarded([&] {
    std::vector<Span> spans;
    for (size_t i = 0; i < sequences.size(); ++i) spans.push_back({sequences[i], tokens.subspan(i, 1)});
    return executor.step(spans);
  });
}

}  // namespace curdkv::testing
