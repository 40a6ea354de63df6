// The user's turn of a chat template is cut at the user's text: what comes before it belongs to the context,
// what comes after it to the question.
#include <algorithm>

#include "base/guard.h"
#include "base/try.h"
#include "curdkv/text.h"

namespace curdkv {
namespace {

constexpr const char* kBetween = "\n\n";  // the document and the question

}  // namespace

Result<Prompt> Prompt::create(const Tokenizer& tokenizer, const PromptOptions& options) {
  return guarded([&]() -> Result<Prompt> {
    const ChatTemplateOptions& chosen = options.chat_template;
    const bool asked = !options.system.empty() || !chosen.source.empty();
    if (!options.chat.value_or(asked || !tokenizer.chat_template().empty())) {
      if (!options.system.empty()) {
        return Error{ErrorCode::bad_argument, "without a chat template there is no system turn to fill"};
      }
      return Prompt(tokenizer, {}, "", false);
    }
    CURDKV_TRY(const ChatTemplate chat_template, ChatTemplate::create(tokenizer, chosen));
    CURDKV_TRY(UserTurn turn, chat_template.user_turn(options.system));
    std::string source = chosen.source.empty() ? tokenizer.chat_template() : chosen.source;
    return Prompt(tokenizer, std::move(turn), std::move(source), true);
  });
}

Result<std::vector<Token>> Prompt::context(const std::string& document) const {
  return guarded([&]() -> Result<std::vector<Token>> {
    const size_t begin = std::min(document.find_first_not_of(turn_.trimmed_left), document.size());
    return tokenizer_.tokenize(
        std::vector<PromptPart>{{turn_.before},
                                {turn_.trimmed_left.empty() ? document : document.substr(begin), true}},
        true);
  });
}

Result<std::vector<Repeat>> Prompt::repeats(std::span<const Token> context) const {
  return guarded([&]() -> Result<std::vector<Repeat>> {
    constexpr int64_t kChunk = 2048, kLead = 8;
    CURDKV_TRY(const std::vector<Token> before, tokenizer_.tokenize(turn_.before, true, true));
    CURDKV_TRY(const std::vector<Token> all,
               tokenizer_.tokenize("\n\nRepeat the previous context exactly.", false, false));
    CURDKV_TRY(const std::vector<Token> part,
               tokenizer_.tokenize("\n\nRepeat the part of the previous context exactly, starting with",
                                   false, false));
    CURDKV_TRY(const std::vector<Token> turn, tokenizer_.tokenize(chat_ ? turn_.after : "\n", true, false));
    const auto n_tokens = static_cast<int64_t>(context.size());
    std::vector<Repeat> out;
    // Where the template's last word runs on into the document's first, that word is repeated, too.
    const auto n_before =
        std::mismatch(before.begin(), before.end(), context.begin(), context.end()).first - before.begin();
    for (int64_t first = n_before; first < n_tokens; first += kChunk) {
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
  });
}

Result<std::vector<Token>> Prompt::question(const std::string& question) const {
  return guarded(
      [&]() -> Result<std::vector<Token>> { return asked(chat_ ? kBetween + question : question, ""); });
}

Result<std::vector<Token>> Prompt::question(const std::string& question,
                                            const std::string& answer_prefix) const {
  return guarded([&]() -> Result<std::vector<Token>> {
    return chat_ ? asked(question, answer_prefix) : asked(question + "\n" + answer_prefix, "");
  });
}

Result<std::vector<Token>> Prompt::asked(const std::string& question, const std::string& answer) const {
  const size_t end =
      turn_.trimmed_right.empty() ? question.size() : question.find_last_not_of(turn_.trimmed_right) + 1;
  return tokenizer_.tokenize(
      std::vector<PromptPart>{{question.substr(0, end), true}, {turn_.after}, {answer, true}}, false);
}

}  // namespace curdkv
