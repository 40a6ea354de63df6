// fuzzywuzzy's fuzz.ratio of two lines, in hundredths.
#pragma once

#include "eval/python_text.h"

namespace curdkv::eval {

// levenshtein: by edit distance with substitutions costing 2, as python-Levenshtein; otherwise by the
// matching blocks of Python's difflib (Ratcliff and Obershelp), with its rule for frequent characters.
double fuzz_ratio(const CodePoints& a, const CodePoints& b, bool levenshtein);

}  // namespace curdkv::eval
