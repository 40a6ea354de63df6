// Texts with questions that are answered by looking something up in them, and the answers: what tells which
// KV heads a model looks things up with.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "eval/haystack.h"
#include "eval/word_list.h"

namespace curdkv::analysis {

struct Lookup {
  std::string context, question, answer_prefix, answer;
};

// Two kinds, in turn: one of ten things strewn over the text, all said in the same words ("The number of the
// NAME is 123456."), is asked for by its name; and a passage of the text by its beginning, to be repeated.
// Every text is n_words words of `text`, which repeats when it is too short; the same seed gives the same.
std::vector<Lookup> make_lookups(const eval::Haystack& text, const eval::WordList& names, int64_t n_words,
                                 int64_t n_lookups, uint32_t seed);

}  // namespace curdkv::analysis
