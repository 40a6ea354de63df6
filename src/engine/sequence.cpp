#include "curdkv/sequence.h"

#include <algorithm>

#include "base/guard.h"
#include "base/try.h"
#include "engine/sequence_state.h"

namespace curdkv {

int64_t SequenceState::longest_head() const {
  int64_t longest = 0;
  for (int64_t il = 0; il < cache.n_layer(); ++il) longest = std::max(longest, cache.longest(il));
  return longest;
}

void SequenceState::clear() noexcept {
  cache.clear();
  n_tokens = next_position = 0;
  logits.clear();
  recent.clear();
}

Sequence::Mark SequenceState::mark() const {
  Sequence::Mark mark;
  mark.n_appended_ = cache.tail().length();
  mark.n_tokens_ = n_tokens;
  mark.next_position_ = next_position;
  mark.n_compressed_ = n_compressed;
  mark.logits_ = logits;
  return mark;
}

bool SequenceState::holds(const Sequence::Mark& mark) const {
  return mark.n_tokens_ <= n_tokens && mark.n_appended_ <= cache.tail().length();
}

bool SequenceState::is_void(const Sequence::Mark& mark) const {
  return mark.n_compressed_ != n_compressed;
}

void SequenceState::rewind(Sequence::Mark mark) noexcept {
  cache.truncate(mark.n_appended_);
  n_tokens = mark.n_tokens_;
  next_position = mark.next_position_;
  logits.swap(mark.logits_);
  recent.drop_from(next_position);
}

Sequence::Sequence(std::unique_ptr<SequenceState> state) : state_(std::move(state)) {}
Sequence::Sequence(Sequence&&) noexcept = default;
Sequence& Sequence::operator=(Sequence&&) noexcept = default;
Sequence::~Sequence() = default;

Sequence Sequence::fork() const {
  return Sequence(std::make_unique<SequenceState>(*state_));
}

Sequence::Mark Sequence::mark() const {
  return state_->mark();
}

Result<void> Sequence::rewind(const Mark& mark) {
  if (!state_->holds(mark)) {
    return Error{ErrorCode::bad_argument,
                 "the mark is not of this sequence, or the sequence was cleared since"};
  }
  if (state_->is_void(mark)) {
    return Error{ErrorCode::bad_argument,
                 "the cache was compressed since the mark was taken, or more was read into it"};
  }
  return guarded([&] { state_->rewind(mark); });
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
    s.recent.drop_from(s.next_position);
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
std::vector<std::vector<std::vector<int32_t>>> Sequence::kept_tokens() const {
  return state_->cache.block_positions();
}
size_t Sequence::kv_bytes() const {
  return state_->cache.n_bytes();
}

}  // namespace curdkv
