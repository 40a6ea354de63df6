// Top-k with a total order: score descending, then position ascending, then head ascending.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "press/allocation.h"

namespace curdkv {

struct Candidate {
  float score;  // never NaN
  int32_t token;
  int32_t head;
};

// All (token, head) pairs of one head, NaN scores replaced by the lowest value.
std::vector<Candidate> candidates_of(const Scores& scores, int64_t head);

// Moves the k best to the front, in no particular order among themselves.
void partition_top(std::vector<Candidate>& candidates, int64_t k);

// Sorts candidates into ascending positions per head.
KeptTokens by_head(std::span<const Candidate> candidates, int64_t n_head_kv);

// The rank of every token of one head: 0 for the highest score, ties to the lower position, NaN last.
std::vector<int64_t> ranks_of(std::span<const float> scores);

// Puts them in descending order; NaN last.
void sort_descending(std::vector<float>& scores);

// The k best tokens of every head.
KeptTokens best_of_each_head(const Scores& scores, int64_t k);

}  // namespace curdkv
