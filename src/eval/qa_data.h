// Questions about documents that their users have as files: SQuAD 2.0 and HotpotQA, as RULER's qa.py reads
// them.
#pragma once

#include <string>
#include <vector>

#include "curdkv/result.h"

namespace curdkv::eval {

struct QaQuestion {
  std::string text;
  std::vector<std::string> answers;
  std::vector<size_t> documents;  // that the answer is in, by their index
  std::vector<size_t> others;     // of the same article: the next to stand beside them
};

struct QaData {
  std::vector<std::string> documents;  // each once, in the order of their characters
  std::vector<QaQuestion> questions;   // that have an answer
};

// Errors: as of read_text(); corrupt if the file is not of that kind; bad_input if it has no question.
Result<QaData> read_squad(const std::string& path);
Result<QaData> read_hotpotqa(const std::string& path);

}  // namespace curdkv::eval
