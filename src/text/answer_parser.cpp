#include "text/answer_parser.h"

#include "base/guard.h"
#include "base/try.h"
#include "text/answer_syntax.h"

namespace curdkv {
namespace {

common_chat_msg as_message(const ParsedAnswer& answer) {
  common_chat_msg out;
  out.role = "assistant";
  out.content = answer.content;
  out.reasoning_content = answer.reasoning;
  for (const ToolCall& call : answer.tool_calls)
    out.tool_calls.push_back({call.name, call.arguments, call.id});
  return out;
}

ParsedAnswer as_answer(const common_chat_msg& message) {
  ParsedAnswer out = {message.content, message.reasoning_content, {}};
  for (const auto& call : message.tool_calls) out.tool_calls.push_back({call.id, call.name, call.arguments});
  return out;
}

}  // namespace

AnswerParser::AnswerParser() : AnswerParser(std::make_shared<Syntax>()) {}
AnswerParser::AnswerParser(std::shared_ptr<const Syntax> syntax) : syntax_(std::move(syntax)) {}

Result<void> AnswerParser::begin() {
  return guarded([&] { all_ = before_ = as_answer(common_chat_parse("", true, syntax_->params)); },
                 ErrorCode::bad_input);
}

ParsedAnswer AnswerParser::answer() const {
  const auto behind = [](const std::string& all, const std::string& before) {
    return all.starts_with(before) ? all.substr(before.size()) : all;
  };
  return {behind(all_.content, before_.content), behind(all_.reasoning, before_.reasoning), all_.tool_calls};
}

Result<std::vector<AnswerDelta>> AnswerParser::read(const std::string& text, bool whole,
                                                    const std::function<std::string()>& make_id) {
  std::vector<AnswerDelta> out;
  const auto done = guarded(
      [&] {
        common_chat_msg next = common_chat_parse(text, !whole, syntax_->params);
        if (next.empty()) return;
        next.set_tool_call_ids(ids_, make_id);
        for (const auto& d : common_chat_msg_diff::compute_diffs(as_message(all_), next)) {
          AnswerDelta delta = {d.content_delta, d.reasoning_content_delta, -1, {}};
          if (d.tool_call_index != std::string::npos) {
            delta.tool_call = static_cast<int64_t>(d.tool_call_index);
            delta.call = {d.tool_call_delta.id, d.tool_call_delta.name, d.tool_call_delta.arguments};
          }
          out.push_back(std::move(delta));
        }
        all_ = as_answer(next);
      },
      ErrorCode::bad_input);
  CURDKV_CHECK(done);
  return out;
}

}  // namespace curdkv
