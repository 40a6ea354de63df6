// One question about one context, and what a right answer looks like.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace curdkv::eval {

struct Sample {
  std::string task;
  int64_t index = 0;   // within its task
  std::string origin;  // for messages: "trec.jsonl, line 3"
  std::string context, question, answer_prefix;
  std::vector<std::string> references;
  std::vector<std::string> classes;  // of a classification task
};

}  // namespace curdkv::eval
