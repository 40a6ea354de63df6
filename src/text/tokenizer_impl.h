// libllama's vocabulary, loaded without weights, and what has to be known of it to keep users' text plain.
#pragma once

#include <llama-cpp.h>

#include <optional>
#include <string_view>
#include <utility>

#include "curdkv/text.h"
#include "text/special_tokens.h"

namespace curdkv {

struct Tokenizer::Impl {
  llama_model_ptr model;
  const llama_vocab* vocab = nullptr;
  std::optional<SpecialTokens> special;

  Result<void> find_lead();
  // goes_on: the text follows other text, and gets no space in front.
  Result<std::vector<Token>> tokenize(std::span<const PromptPart> parts, bool begin, bool goes_on) const;

 private:
  // Text between two special tokens, with what users wrote at some places of it.
  struct Fragment {
    std::string text;
    std::vector<std::pair<size_t, size_t>> from_user;  // begin, end
    void strip_right();
  };
  Result<void> append(std::string_view text, bool goes_on, std::vector<Token>& out) const;
  Result<void> append(const Fragment& fragment, bool goes_on, std::vector<Token>& out) const;

  std::string lead;  // see find_lead(); "" where none is needed
  std::vector<Token> lead_tokens;
};

}  // namespace curdkv
