#include "server/prompt_plan.h"

#include <algorithm>

#include "base/try.h"
#include "server/identity.h"

namespace curdkv::server {
namespace {

constexpr size_t kLongestQuestion = 4096;  // bytes

// Bytes of a text before its last paragraph, or before its last line where the paragraph is too long for a
// question; npos if neither leaves a question.
size_t before_question(const std::string& text) {
  const size_t end = text.find_last_not_of(" \t\r\n");
  if (end == std::string::npos) return end;
  for (const char* between : {"\n\n", "\n"}) {
    const size_t at = text.rfind(between, end);
    if (at != std::string::npos && text.size() - at <= kLongestQuestion) return at;
  }
  return std::string::npos;
}

// The first `bytes` bytes of the parts.
std::vector<PromptPart> first_of(const std::vector<PromptPart>& parts, size_t bytes) {
  std::vector<PromptPart> out;
  for (const PromptPart& part : parts) {
    out.push_back({part.text.substr(0, bytes), part.from_user});
    bytes -= out.back().text.size();
    if (bytes == 0) break;
  }
  return out;
}

class Cutter {
 public:
  Cutter(const Tokenizer& tokenizer, const std::vector<PromptPart>& parts, int64_t worth)
      : tokenizer_(tokenizer), parts_(parts), worth_(worth) {}

  Result<void> tokenize() {
    CURDKV_TRY(plan.tokens, tokenizer_.tokenize(parts_, true));
    return {};
  }
  // Cuts before byte `at` if that is worth it. A word that runs across it belongs to what comes after.
  Result<void> cut(size_t at) {
    CURDKV_TRY(const std::vector<Token> first, tokenizer_.tokenize(first_of(parts_, at), true));
    const int64_t end =
        std::mismatch(first.begin(), first.end(), plan.tokens.begin(), plan.tokens.end()).first -
        first.begin();
    const int64_t before = plan.cuts.empty() ? 0 : plan.cuts.back();
    if (end - before >= worth_ && end < std::ssize(plan.tokens)) plan.cuts.push_back(end);
    return {};
  }

  PromptPlan plan;

 private:
  const Tokenizer& tokenizer_;
  const std::vector<PromptPart>& parts_;
  int64_t worth_;
};

}  // namespace

Result<PromptPlan> plan_chat(const ChatTemplate& chat_template, const Tokenizer& tokenizer,
                             const ChatRequest& request, const RenderedChat& rendered,
                             const std::vector<MessageText>& messages, int64_t worth) {
  Cutter cutter(tokenizer, rendered.parts, worth);
  CURDKV_CHECK(cutter.tokenize());
  const std::string text = rendered.text();
  // A token is a byte at least, so that few bytes need not be looked at.
  size_t cut_at = 0;
  for (size_t i = 0; worth > 0 && i < messages.size(); ++i) {
    const MessageText& m = messages[i];
    const bool last = i + 1 == messages.size();
    const size_t question = m.from_user ? before_question(m.text) : std::string::npos;
    if (last && question == std::string::npos) break;
    const auto extent = extent_of_messages(chat_template, request, i + 1, text);
    if (!extent || *extent < cut_at + static_cast<size_t>(worth)) continue;
    size_t at = *extent;
    if (question != std::string::npos && static_cast<int64_t>(question) >= worth) {
      const size_t end = m.text.find_last_not_of(" \t\r\n") + 1;
      at = text.rfind(m.text.substr(question, end - question), *extent);
      if (at == std::string::npos) at = *extent;
    } else if (last) {
      break;
    }
    const size_t n_before = cutter.plan.cuts.size();
    CURDKV_CHECK(cutter.cut(at));
    if (cutter.plan.cuts.size() > n_before) cut_at = at;
  }
  return std::move(cutter.plan);
}

Result<PromptPlan> plan_text(const Tokenizer& tokenizer, const std::string& text, int64_t worth) {
  const std::vector<PromptPart> parts = {{text}};
  Cutter cutter(tokenizer, parts, worth);
  CURDKV_CHECK(cutter.tokenize());
  const size_t question = before_question(text);
  if (worth > 0 && question != std::string::npos) CURDKV_CHECK(cutter.cut(question));
  return std::move(cutter.plan);
}

std::vector<int64_t> cuts_of_tokens(const Tokenizer& tokenizer, std::span<const Token> tokens,
                                    int64_t worth) {
  std::string text;
  std::vector<size_t> ends;
  for (const Token t : tokens) {
    text += tokenizer.piece(t, true);
    ends.push_back(text.size());
  }
  const size_t question = before_question(text);
  if (question == std::string::npos) return {};
  const int64_t n = std::upper_bound(ends.begin(), ends.end(), question) - ends.begin();
  if (n < worth || n >= std::ssize(tokens)) return {};
  return {n};
}

std::vector<Link> links_of(const PromptPlan& plan, const std::string& root, const Press& press) {
  std::vector<Link> out;
  std::string before = root;
  int64_t begin = 0;
  for (const int64_t end : plan.cuts) {
    before = context_id(before, press,
                        std::span<const Token>(plan.tokens)
                            .subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin)));
    out.push_back({before, end, press});
    begin = end;
  }
  return out;
}

}  // namespace curdkv::server
