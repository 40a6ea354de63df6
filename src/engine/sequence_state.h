// What a sequence is: the rows it holds, where it stands, and the logits after its last token.
#pragma once

#include <cstdint>
#include <vector>

#include "cache/sequence_cache.h"
#include "curdkv/model.h"
#include "curdkv/sequence.h"
#include "engine/recent_queries.h"

namespace curdkv {

struct SequenceState {
  explicit SequenceState(const Model& of, SequenceCache empty) : model(of), cache(std::move(empty)) {}

  Model model;
  SequenceCache cache;
  int64_t n_tokens = 0;
  int64_t next_position = 0;  // of RoPE; n_tokens unless gaps were closed
  int64_t n_compressed = 0;   // times that older marks became worthless
  std::vector<float> logits;
  RecentQueries recent;

  static SequenceState& of(Sequence& sequence) { return *sequence.state_; }
  static const SequenceState& of(const Sequence& sequence) { return *sequence.state_; }

  int64_t longest_head() const;
  Sequence::Mark mark() const;
  bool holds(const Sequence::Mark& mark) const;    // no fewer tokens than it, and as many appended
  bool is_void(const Sequence::Mark& mark) const;  // compressed or read on since
  void rewind(Sequence::Mark mark) noexcept;       // to a mark that is neither missing nor void
  void clear() noexcept;
};

}  // namespace curdkv
