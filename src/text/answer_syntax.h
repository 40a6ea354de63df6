// The form of a template's answers, as llama.cpp has it.
#pragma once

#include <chat.h>

#include "text/answer_parser.h"

namespace curdkv {

struct AnswerParser::Syntax {
  common_chat_parser_params params;
};

}  // namespace curdkv
