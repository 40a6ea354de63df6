// What curdkv run says of a context's reading and of the answers from it.
#pragma once

#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "curdkv/generate.h"

namespace curdkv::app {

struct Answer {
  Generation generation;
  double question_ms = 0;  // from the question's first token to the answer's first
};

// One context read by one press, and the answers from it.
struct Reading {
  std::string label;
  ReadReport prefill;
  std::vector<std::vector<int64_t>> n_kept;
  size_t kv_bytes_peak = 0;  // prefill and questions
  std::vector<Answer> answers;
};

double decode_ms(std::span<const Answer> answers);  // per token

std::string decoding_as_text(std::span<const Answer> answers);  // a line, or nothing
std::string reading_as_text(const Reading& r);                  // a line
std::string side_by_side(const std::vector<std::string>& questions, const Reading& full, const Reading& r);
nlohmann::ordered_json answer_json(const Answer& a);
nlohmann::ordered_json answers_json(const std::vector<std::string>& questions,
                                    std::span<const Answer> answers);

}  // namespace curdkv::app
