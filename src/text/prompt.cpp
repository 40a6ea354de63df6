// The user's turn of a chat template is cut at the user's text: what comes before it belongs to the context,
// what comes after it to the question.
#include <algorithm>

#include "base/guard.h"
#include "base/try.h"
#include "curdkv/text.h"

namespace curdkv {
namespace {

constexpr const char* kBetween = "\n\n";  // the document and the question

// Of a document that was read, to the template: what it writes around users' text does not depend on that.
constexpr const char* kStandIn = "D";

// Where Prompt's parts of a conversation have what the user says in turn i. Before it stands the template's
// text, and from the second on the answer with the template's text before that.
size_t user_part(size_t i) {
  return 1 + 4 * i;
}

}  // namespace

Result<Prompt> Prompt::create(const Tokenizer& tokenizer, const PromptOptions& options) {
  return guarded([&]() -> Result<Prompt> {
    Prompt prompt(tokenizer);
    const ChatTemplateOptions& chosen = options.chat_template;
    const bool asked = !options.system.empty() || !chosen.source.empty();
    if (!options.chat.value_or(asked || !tokenizer.chat_template().empty())) {
      if (!options.system.empty()) {
        return Error{ErrorCode::bad_argument, "without a chat template there is no system turn to fill"};
      }
      return prompt;
    }
    CURDKV_TRY(prompt.template_, ChatTemplate::create(tokenizer, chosen));
    CURDKV_TRY(prompt.turn_, prompt.template_->user_turn(options.system));
    prompt.source_ = chosen.source.empty() ? tokenizer.chat_template() : chosen.source;
    prompt.system_ = options.system;
    return prompt;
  });
}

Result<std::vector<Token>> Prompt::context(const std::string& document) const {
  return guarded([&]() -> Result<std::vector<Token>> {
    return tokenizer_.tokenize(std::vector<PromptPart>{{turn_.before}, {without_lead(document), true}}, true);
  });
}

std::string Prompt::without_lead(const std::string& text) const {
  if (turn_.trimmed_left.empty()) return text;
  return text.substr(std::min(text.find_first_not_of(turn_.trimmed_left), text.size()));
}

Result<std::vector<PromptPart>> Prompt::parts_behind_document(std::span<const Exchange> exchanges) const {
  if (!template_)
    return Error{ErrorCode::unsupported, "without a chat template there is no conversation of turns"};
  if (exchanges.empty()) return Error{ErrorCode::bad_argument, "nothing was asked"};
  std::vector<Message> messages;
  if (!system_.empty()) messages.push_back({"system", system_});
  size_t first = 0;
  std::optional<size_t> last_document;
  for (size_t i = 0; i < exchanges.size(); ++i) {
    const Exchange& e = exchanges[i];
    if (e.document) last_document = i;
    messages.push_back({"user", (e.document ? std::string(kStandIn) + kBetween : "") + e.question});
    if (i + 1 < exchanges.size()) messages.push_back({"assistant", e.answer});
  }
  CURDKV_TRY(std::vector<PromptPart> parts, template_->parts(messages, true));
  if (last_document) {
    first = user_part(*last_document);
    parts[first].text.erase(0, std::string(kStandIn).size());
  }
  parts.erase(parts.begin(), parts.begin() + static_cast<std::ptrdiff_t>(first));
  return parts;
}

Result<std::vector<Token>> Prompt::conversation(std::span<const Exchange> exchanges) const {
  return guarded([&]() -> Result<std::vector<Token>> {
    CURDKV_TRY(const std::vector<PromptPart> parts, parts_behind_document(exchanges));
    return tokenizer_.tokenize(parts, std::ranges::none_of(exchanges, &Exchange::document));
  });
}

Result<std::vector<Token>> Prompt::opening(std::span<const Exchange> exchanges,
                                           const std::string& text) const {
  return guarded([&]() -> Result<std::vector<Token>> {
    std::vector<Exchange> all(exchanges.begin(), exchanges.end());
    all.push_back({false, kStandIn, ""});
    CURDKV_TRY(std::vector<PromptPart> parts, parts_behind_document(all));
    parts.pop_back();
    parts.back().text = without_lead(text);
    return tokenizer_.tokenize(parts, std::ranges::none_of(exchanges, &Exchange::document));
  });
}

Result<std::vector<Token>> Prompt::next_document(const std::string& document) const {
  return tokenizer_.tokenize(kBetween + document, false, false);
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
    CURDKV_TRY(const std::vector<Token> turn,
               tokenizer_.tokenize(is_chat() ? turn_.after : "\n", true, false));
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
      [&]() -> Result<std::vector<Token>> { return asked(is_chat() ? kBetween + question : question, ""); });
}

Result<std::vector<Token>> Prompt::question(const std::string& question,
                                            const std::string& answer_prefix) const {
  return guarded([&]() -> Result<std::vector<Token>> {
    return is_chat() ? asked(question, answer_prefix) : asked(question + "\n" + answer_prefix, "");
  });
}

Result<std::vector<Token>> Prompt::asked(const std::string& question, const std::string& answer) const {
  const size_t end =
      turn_.trimmed_right.empty() ? question.size() : question.find_last_not_of(turn_.trimmed_right) + 1;
  return tokenizer_.tokenize(
      std::vector<PromptPart>{{question.substr(0, end), true}, {turn_.after}, {answer, true}}, false);
}

}  // namespace curdkv
