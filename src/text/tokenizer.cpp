#include <llama.h>

#include "base/log_capture.h"
#include "base/try.h"
#include "curdkv/text.h"
#include "text/tokenizer_impl.h"

namespace curdkv {

Result<Tokenizer> Tokenizer::load(const std::string& path) {
  capture_logs();
  take_log_error();
  llama_model_params params = llama_model_default_params();
  params.vocab_only = true;
  auto impl = std::make_shared<Impl>();
  impl->model.reset(llama_model_load_from_file(path.c_str(), params));
  if (!impl->model) {
    return Error{ErrorCode::bad_input, path + ": the vocabulary cannot be read: " + take_log_error()};
  }
  impl->vocab = llama_model_get_vocab(impl->model.get());
  return Tokenizer(std::move(impl));
}

Result<std::vector<Token>> Tokenizer::tokenize(const std::string& text, bool specials, bool begin) const {
  if (text.size() > static_cast<size_t>(INT32_MAX)) {
    return Error{ErrorCode::bad_input, "a text of more than 2 GiB cannot be tokenised"};
  }
  const auto size = static_cast<int32_t>(text.size());
  std::vector<Token> tokens(text.size() + 2);
  int32_t n = llama_tokenize(impl_->vocab, text.c_str(), size, tokens.data(), static_cast<int32_t>(tokens.size()),
                             begin, specials);
  if (n < 0 && n != INT32_MIN) {
    tokens.resize(static_cast<size_t>(-n));
    n = llama_tokenize(impl_->vocab, text.c_str(), size, tokens.data(), static_cast<int32_t>(tokens.size()), begin,
                       specials);
  }
  if (n < 0) return Error{ErrorCode::bad_input, "the text cannot be tokenised"};
  tokens.resize(static_cast<size_t>(n));
  return tokens;
}

std::string Tokenizer::piece(Token token) const {
  std::string out(64, '\0');
  int32_t n = llama_token_to_piece(impl_->vocab, token, out.data(), static_cast<int32_t>(out.size()), 0, false);
  if (n < 0) {
    out.resize(static_cast<size_t>(-n));
    n = llama_token_to_piece(impl_->vocab, token, out.data(), static_cast<int32_t>(out.size()), 0, false);
  }
  out.resize(static_cast<size_t>(n < 0 ? 0 : n));
  return out;
}

std::string Tokenizer::text(std::span<const Token> tokens) const {
  std::string out;
  for (Token t : tokens) out += piece(t);
  return out;
}

bool Tokenizer::ends_generation(Token token) const { return llama_vocab_is_eog(impl_->vocab, token); }
int64_t Tokenizer::n_vocab() const { return llama_vocab_n_tokens(impl_->vocab); }

std::string Tokenizer::chat_template() const {
  const char* source = llama_model_chat_template(impl_->model.get(), nullptr);
  return source == nullptr ? "" : source;
}

}  // namespace curdkv
