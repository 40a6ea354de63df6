// Where a prompt is cut: what is long at its beginning becomes contexts, read once and found again by whoever
// asks behind the same; the rest is asked. Cuts follow from the messages alone, so that the same request is
// always answered from the same rows, whatever is remembered.
#pragma once

#include <string>
#include <vector>

#include "curdkv/text.h"
#include "server/task.h"
#include "text/chat_request.h"

namespace curdkv::server {

struct PromptPlan {
  std::vector<Token> tokens;
  std::vector<int64_t> cuts;  // where contexts end, ascending
};

struct MessageText {
  bool from_user = false;
  std::string text;
};

// A conversation is cut behind a message when at least `worth` tokens have come since the last cut; a user's
// message before its last paragraph, which is taken for a question about the others, and the last message
// only there. worth: 0 for no cuts. Errors: as of Tokenizer::tokenize.
Result<PromptPlan> plan_chat(const ChatTemplate& chat_template, const Tokenizer& tokenizer,
                             const ChatRequest& request, const RenderedChat& rendered,
                             const std::vector<MessageText>& messages, int64_t worth);

// A text that goes through no template, likewise.
Result<PromptPlan> plan_text(const Tokenizer& tokenizer, const std::string& text, int64_t worth);

// The same of tokens: where the text they are would be cut.
std::vector<int64_t> cuts_of_tokens(const Tokenizer& tokenizer, std::span<const Token> tokens, int64_t worth);

// Contexts' ids for the cuts. root: as of root_of().
std::vector<Link> links_of(const PromptPlan& plan, const std::string& root, const Press& press);

}  // namespace curdkv::server
