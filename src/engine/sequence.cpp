#include "curdkv/sequence.h"

#include <algorithm>

#include "base/guard.h"
#include "engine/sequence_state.h"

namespace curdkv {

int64_t SequenceState::longest_head() const {
  int64_t longest = 0;
  for (int64_t il = 0; il < cache.shape().n_layer; ++il) longest = std::max(longest, cache.longest(il));
  return longest;
}

void SequenceState::clear() noexcept {
  cache.clear();
  n_tokens = next_position = 0;
  logits.clear();
  kept.clear();
}

Sequence::Sequence(std::unique_ptr<SequenceState> state) : state_(std::move(state)) {}
Sequence::Sequence(Sequence&&) noexcept = default;
Sequence& Sequence::operator=(Sequence&&) noexcept = default;
Sequence::~Sequence() = default;

Sequence Sequence::fork() const {
  return Sequence(std::make_unique<SequenceState>(*state_));
}

Sequence::Mark Sequence::mark() const {
  Mark mark;
  mark.n_appended_ = state_->cache.tail().length();
  mark.n_tokens_ = state_->n_tokens;
  mark.next_position_ = state_->next_position;
  mark.n_compressed_ = state_->n_compressed;
  mark.logits_ = state_->logits;
  return mark;
}

Result<void> Sequence::rewind(const Mark& mark) {
  SequenceState& s = *state_;
  if (mark.n_tokens_ > s.n_tokens || mark.n_appended_ > s.cache.tail().length()) {
    return Error{ErrorCode::bad_argument,
                 "the mark is not of this sequence, or the sequence was cleared since"};
  }
  if (mark.n_compressed_ != s.n_compressed) {
    return Error{ErrorCode::bad_argument, "the cache was compressed since the mark was taken"};
  }
  return guarded([&] {
    s.logits = mark.logits_;
    s.cache.truncate(mark.n_appended_);
    s.n_tokens = mark.n_tokens_;
    s.next_position = mark.next_position_;
  });
}

Result<void> Sequence::drop_last(int64_t n, std::span<const float> logits) {
  SequenceState& s = *state_;
  const int64_t n_left = s.cache.tail().length() - n;
  if (n < 0 || n_left < 0) {
    return Error{ErrorCode::bad_argument,
                 "no more tokens can be dropped than were appended since the last reading"};
  }
  return guarded([&] {
    s.logits.assign(logits.begin(), logits.end());
    s.cache.truncate(n_left);
    s.n_tokens -= n;
    s.next_position -= n;
  });
}

std::span<const float> Sequence::logits() const {
  return state_->logits;
}
void Sequence::clear() {
  state_->clear();
}
int64_t Sequence::n_tokens() const {
  return state_->n_tokens;
}
int64_t Sequence::next_position() const {
  return state_->next_position;
}
int64_t Sequence::longest_head() const {
  return state_->longest_head();
}
std::vector<std::vector<int64_t>> Sequence::cache_lengths() const {
  return state_->cache.lengths();
}
const std::vector<KeptTokens>& Sequence::kept_tokens() const {
  return state_->kept;
}
size_t Sequence::kv_bytes() const {
  return state_->cache.n_bytes();
}

}  // namespace curdkv
