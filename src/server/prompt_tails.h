// The ends of prompts: what was asked lately behind a context, kept as it lay in the cache, so that the next
// turn of a chat appends only what is new. Only prompts, no answers: tokens that were decoded may differ in
// their last bits from the same tokens as part of a prompt, and what is answered must not depend on what is
// remembered.
#pragma once

#include <functional>
#include <list>
#include <optional>
#include <string>
#include <vector>

#include "curdkv/sequence.h"

namespace curdkv::server {

class PromptTails {
 public:
  explicit PromptTails(size_t most) : most_(most) {}

  struct Found {
    Sequence sequence;
    int64_t n;  // of the tokens, that it holds
  };
  // place: the name space, and the context before the tokens. What holds most of their beginning; nothing if
  // that is less than is worth it.
  Result<std::optional<Found>> find(const std::string& place, std::span<const Token> tokens);
  void keep(const std::string& place, std::span<const Token> tokens, const Sequence& sequence);
  // place: as in find(); whether what is kept there has to go.
  void drop_if(const std::function<bool(const std::string& place)>& must_go);

 private:
  struct Tail {
    std::string place;
    std::vector<Token> tokens;
    Sequence sequence;
  };
  size_t most_;
  std::list<Tail> tails_;  // the latest first
};

}  // namespace curdkv::server
