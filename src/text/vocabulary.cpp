#include "text/vocabulary.h"

#include "text/tokenizer_impl.h"

namespace curdkv {
namespace {

std::optional<Token> if_any(llama_token token) {
  if (token == LLAMA_TOKEN_NULL) return std::nullopt;
  return token;
}

}  // namespace

std::optional<Token> begin_token(const Tokenizer& tokenizer) {
  return if_any(llama_vocab_bos(tokenizer.impl().vocab));
}

std::optional<Token> end_token(const Tokenizer& tokenizer) {
  return if_any(llama_vocab_eos(tokenizer.impl().vocab));
}

}  // namespace curdkv
