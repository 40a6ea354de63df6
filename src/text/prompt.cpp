// Splits the chat template at the user's text: what comes before it belongs to the context, what comes after
// it to the question. Documents and questions are tokenised without special tokens, so that a document cannot
// close its own turn by quoting one.
#include <llama.h>

#include "base/guard.h"
#include "base/try.h"
#include "curdkv/text.h"

namespace curdkv {
namespace {

constexpr const char* kBetween = "\n\n";  // the document and the question
constexpr const char* kMarker = "<curdkv: the user's text goes here>";

Result<std::string> render(const std::string& source, const char* user) {
  const llama_chat_message message = {"user", user};
  std::string out(4096, '\0');
  for (int attempt = 0; attempt < 2; ++attempt) {
    int32_t n = -1;
    CURDKV_CHECK(guarded(
        [&] {
          n = llama_chat_apply_template(source.c_str(), &message, 1, true, out.data(),
                                        static_cast<int32_t>(out.size()));
        },
        ErrorCode::bad_input));
    if (n < 0) break;
    const bool fits = static_cast<size_t>(n) <= out.size();
    out.resize(static_cast<size_t>(n));
    if (fits) return out;
  }
  return Error{ErrorCode::bad_input, "the model's chat template is not one that libllama knows; try --raw"};
}

}  // namespace

Result<Prompt> Prompt::create(const Tokenizer& tokenizer, bool chat) {
  if (!chat) return Prompt(tokenizer, "", "", false);
  const std::string source = tokenizer.chat_template();
  if (source.empty()) return Error{ErrorCode::bad_input, "the model has no chat template; use --raw"};
  CURDKV_TRY(const std::string whole, render(source, kMarker));
  const size_t at = whole.find(kMarker);
  if (at == std::string::npos) {
    return Error{ErrorCode::bad_input, "the model's chat template leaves out the user's text; try --raw"};
  }
  return Prompt(tokenizer, whole.substr(0, at), whole.substr(at + std::string(kMarker).size()), true);
}

Result<std::vector<Token>> Prompt::context(const std::string& document) const {
  CURDKV_TRY(std::vector<Token> tokens, tokenizer_.tokenize(before_, true, true));
  CURDKV_TRY(const std::vector<Token> text, tokenizer_.tokenize(document, false, false));
  tokens.insert(tokens.end(), text.begin(), text.end());
  return tokens;
}

Result<std::vector<Repeat>> Prompt::repeats(std::span<const Token> context) const {
  constexpr int64_t kChunk = 2048, kLead = 8;
  CURDKV_TRY(const std::vector<Token> before, tokenizer_.tokenize(before_, true, true));
  CURDKV_TRY(const std::vector<Token> all,
             tokenizer_.tokenize("\n\nRepeat the previous context exactly.", false, false));
  CURDKV_TRY(const std::vector<Token> part,
             tokenizer_.tokenize("\n\nRepeat the part of the previous context exactly, starting with", false,
                                 false));
  CURDKV_TRY(const std::vector<Token> turn, tokenizer_.tokenize(chat_ ? after_ : "\n", true, false));
  const auto n_tokens = static_cast<int64_t>(context.size());
  std::vector<Repeat> out;
  for (int64_t first = static_cast<int64_t>(before.size()); first < n_tokens; first += kChunk) {
    Repeat r = {first, std::min(kChunk, n_tokens - first), out.empty() ? all : part};
    const auto append = [&](std::span<const Token> more) {
      r.tokens.insert(r.tokens.end(), more.begin(), more.end());
    };
    if (!out.empty()) append(context.subspan(static_cast<size_t>(first - kLead), kLead));
    append(turn);
    append(context.subspan(static_cast<size_t>(r.first), static_cast<size_t>(r.n)));
    out.push_back(std::move(r));
  }
  return out;
}

Result<std::vector<Token>> Prompt::question(const std::string& question) const {
  return asked(chat_ ? kBetween + question : question, "");
}

Result<std::vector<Token>> Prompt::question(const std::string& question,
                                            const std::string& answer_prefix) const {
  return chat_ ? asked(question, answer_prefix) : asked(question + "\n" + answer_prefix, "");
}

Result<std::vector<Token>> Prompt::asked(const std::string& question, const std::string& answer) const {
  CURDKV_TRY(std::vector<Token> tokens, tokenizer_.tokenize(question, false, false));
  CURDKV_TRY(const std::vector<Token> tail, tokenizer_.tokenize(after_, true, false));
  CURDKV_TRY(const std::vector<Token> begun, tokenizer_.tokenize(answer, false, false));
  tokens.insert(tokens.end(), tail.begin(), tail.end());
  tokens.insert(tokens.end(), begun.begin(), begun.end());
  return tokens;
}

}  // namespace curdkv
