// Scores of predictions, in [0, 1], as the benchmarks' own code computes them: RULER's string match (kvpress
// evaluation/benchmarks/ruler) and LongBench's metrics.py with rouge 1.0.1 and fuzzywuzzy 0.18
// (THUDM/LongBench 2e00731, kvpress 3dbf8f4).
#pragma once

#include <span>
#include <string>
#include <vector>

#include "eval/task.h"

namespace curdkv::eval {

// Where implementations differ. The defaults are those of LongBench, and of kvpress when the paper was made.
struct ScoringVariant {
  bool kvpress_head = false;  // LongBench: white space in front of every prediction goes (kvpress 8bb29b9)
  bool levenshtein = false;   // code: edit distance, as with python-Levenshtein installed; else difflib
  bool nvidia_ruler = false;  // RULER: control characters become line breaks; else they go
};

// The best over the references (string match: over all of them).
double score_of(const TaskInfo& task, const std::string& prediction, std::span<const std::string> references,
                std::span<const std::string> classes, const ScoringVariant& variant = {});

// Word F1 after SQuAD's normalisation: lower case, without ASCII punctuation and the articles.
double qa_f1(const std::string& prediction, const std::string& reference);
double rouge_l(const std::string& prediction, const std::string& reference);

}  // namespace curdkv::eval
