#include <llama.h>

#include <new>

#include "base/guard.h"
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
  const auto loaded = guarded([&] { impl->model.reset(llama_model_load_from_file(path.c_str(), params)); });
  if (!loaded || !impl->model) {
    const std::string why = loaded ? take_log_error() : loaded.error().message;
    if (is_about_memory(why))
      return Error{ErrorCode::out_of_memory, path + ": there is not enough memory to read its vocabulary"};
    return Error{ErrorCode::bad_input, path + ": the vocabulary cannot be read: " + why};
  }
  impl->vocab = llama_model_get_vocab(impl->model.get());
  return Tokenizer(std::move(impl));
}

Result<std::vector<Token>> Tokenizer::tokenize(const std::string& text, bool specials, bool begin) const {
  if (text.size() > static_cast<size_t>(INT32_MAX)) {
    return Error{ErrorCode::bad_input, "a text of more than 2 GiB cannot be tokenised"};
  }
  std::vector<Token> tokens;
  const auto run = [&] {
    return llama_tokenize(impl_->vocab, text.c_str(), static_cast<int32_t>(text.size()), tokens.data(),
                          static_cast<int32_t>(tokens.size()), begin, specials);
  };
  int32_t n = 0;
  const auto done = guarded([&] {
    tokens.resize(text.size() + 2);
    n = run();
    if (n < 0 && n != INT32_MIN) {  // more tokens than bytes: it says how many
      tokens.resize(static_cast<size_t>(-n));
      n = run();
    }
  });
  if (!done && done.error().code == ErrorCode::out_of_memory) return done.error();
  if (!done || n < 0) {
    return Error{ErrorCode::bad_input,
                 "the text cannot be tokenised" + (done ? "" : ": " + done.error().message)};
  }
  tokens.resize(static_cast<size_t>(n));
  return tokens;
}

std::string Tokenizer::piece(Token token) const {
  std::string out(64, '\0');
  const auto run = [&] {
    return llama_token_to_piece(impl_->vocab, token, out.data(), static_cast<int32_t>(out.size()), 0, false);
  };
  int32_t n = 0;
  const auto done = guarded([&] {
    n = run();
    if (n < 0) {
      out.resize(static_cast<size_t>(-n));
      n = run();
    }
  });
  if (!done && done.error().code == ErrorCode::out_of_memory) throw std::bad_alloc();  // as any string may
  out.resize(done && n > 0 ? static_cast<size_t>(n) : 0);
  return out;
}

std::string Tokenizer::text(std::span<const Token> tokens) const {
  std::string out;
  for (Token t : tokens) out += piece(t);
  return out;
}

bool Tokenizer::ends_generation(Token token) const {
  return llama_vocab_is_eog(impl_->vocab, token);
}
int64_t Tokenizer::n_vocab() const {
  return llama_vocab_n_tokens(impl_->vocab);
}

std::string Tokenizer::chat_template() const {
  const char* source = llama_model_chat_template(impl_->model.get(), nullptr);
  return source == nullptr ? "" : source;
}

}  // namespace curdkv
