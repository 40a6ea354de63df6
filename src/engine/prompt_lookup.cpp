#include "engine/prompt_lookup.h"

#include <algorithm>

namespace curdkv {

PromptLookup::PromptLookup(std::span<const Token> text) {
  text_.reserve(text.size());
  for (const Token t : text) append(t);
}

uint64_t PromptLookup::key_at(size_t end) const {
  uint64_t key = 0;
  for (size_t i = end - kMatch; i < end; ++i)
    key = (key ^ static_cast<uint32_t>(text_[i])) * 0x9e3779b97f4a7c15ull;
  return key;
}

void PromptLookup::append(Token token) {
  // How the text went on behind the tokens that were its last is known only now.
  if (text_.size() >= kMatch) went_on_at_[key_at(text_.size())] = text_.size();
  text_.push_back(token);
}

std::vector<Token> PromptLookup::draft(size_t n) const {
  if (text_.size() < kMatch) return {};
  const auto found = went_on_at_.find(key_at(text_.size()));
  if (found == went_on_at_.end()) return {};
  const auto from = text_.begin() + static_cast<std::ptrdiff_t>(found->second);
  const bool alike = std::equal(text_.end() - kMatch, text_.end(), from - kMatch);
  if (!alike) return {};  // other tokens of the same key
  return {from, from + std::min<std::ptrdiff_t>(static_cast<std::ptrdiff_t>(n), text_.end() - from)};
}

size_t DraftPace::length() const {
  constexpr int kFirst = 1;  // tokens alone, to compare with
  if (n_alone_ < kFirst) return 0;
  return saved_ms_ < -0.01 * total_ms_ - alone_ms_ / 2 ? 0 : length_;
}

void DraftPace::note_alone(double ms) {
  total_ms_ += ms;
  // The first has a graph to build.
  if (++n_alone_ == 2 || alone_ms_ == 0 || ms < alone_ms_) {
    alone_ms_ = ms;
  } else {
    alone_ms_ += (ms - alone_ms_) / 8;
  }
}

void DraftPace::note_drafted(size_t n_drafted, size_t n_accepted, double ms) {
  total_ms_ += ms;
  saved_ms_ += alone_ms_ * static_cast<double>(n_accepted + 1) - ms;
  // Eight columns cost more for each than four do, so that they pay where the text goes on being quoted.
  n_all_right_ = n_accepted == n_drafted ? n_all_right_ + 1 : 0;
  length_ = n_all_right_ >= 2 ? kLong : kShort;
}

}  // namespace curdkv
