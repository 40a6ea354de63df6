// An answer of a chat, in OpenAI's form.
#pragma once

#include "server/reply.h"
#include "text/answer_parser.h"

namespace curdkv::server {

// parser: of the template that the prompt went through. logprobs, with_usage: whether they are told.
std::shared_ptr<Reply> chat_reply(const Api& api, AnswerParser parser, int n_choices, bool logprobs,
                                  bool with_usage);

}  // namespace curdkv::server
