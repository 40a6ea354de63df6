// What a vocabulary says of itself.
#pragma once

#include <optional>

#include "curdkv/text.h"

namespace curdkv {

// The tokens that begin texts and end them; nothing where the vocabulary has none.
std::optional<Token> begin_token(const Tokenizer& tokenizer);
std::optional<Token> end_token(const Tokenizer& tokenizer);

}  // namespace curdkv
