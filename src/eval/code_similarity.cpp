#include "eval/code_similarity.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace curdkv::eval {
namespace {

class Blocks {
 public:
  Blocks(const CodePoints& a, const CodePoints& b) : a_(a), b_(b) {
    for (size_t j = 0; j < b.size(); ++j) where_[b[j]].push_back(j);
    // difflib's autojunk: in long texts a frequent character starts no block, but may continue one.
    if (b.size() >= 200)
      std::erase_if(where_, [&](const auto& e) { return e.second.size() > b.size() / 100 + 1; });
  }

  // Characters in matching blocks: the longest (first in a, then in b), and those left and right of it.
  size_t count(size_t a_first, size_t a_end, size_t b_first, size_t b_end) const {
    size_t at_a = a_first, at_b = b_first, size = 0;
    std::map<size_t, size_t> lengths;  // of the blocks that end at b[j] and the current a[i]
    for (size_t i = a_first; i < a_end; ++i) {
      std::map<size_t, size_t> now;
      const auto it = where_.find(a_[i]);
      if (it != where_.end()) {
        for (const size_t j : it->second) {
          if (j < b_first || j >= b_end) continue;
          const auto before = j > 0 ? lengths.find(j - 1) : lengths.end();
          const size_t n = now[j] = (before == lengths.end() ? 0 : before->second) + 1;
          if (n > size) {
            at_a = i + 1 - n;
            at_b = j + 1 - n;
            size = n;
          }
        }
      }
      lengths = std::move(now);
    }
    while (at_a > a_first && at_b > b_first && a_[at_a - 1] == b_[at_b - 1]) --at_a, --at_b, ++size;
    while (at_a + size < a_end && at_b + size < b_end && a_[at_a + size] == b_[at_b + size]) ++size;
    if (size == 0) return 0;
    return size + count(a_first, at_a, b_first, at_b) + count(at_a + size, a_end, at_b + size, b_end);
  }

 private:
  const CodePoints &a_, &b_;
  std::map<char32_t, std::vector<size_t>> where_;
};

size_t longest_common_subsequence(const CodePoints& a, const CodePoints& b) {
  std::vector<size_t> row(b.size() + 1);
  for (const char32_t c : a) {
    size_t diagonal = 0;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      row[j] = c == b[j - 1] ? diagonal + 1 : std::max(above, row[j - 1]);
      diagonal = above;
    }
  }
  return row.back();
}

}  // namespace

double fuzz_ratio(const CodePoints& a, const CodePoints& b, bool levenshtein) {
  if (a == b) return 1;
  if (a.empty() || b.empty()) return 0;
  // Deleting and inserting what is not common is the edit distance when substitutions cost as much.
  const size_t common =
      levenshtein ? longest_common_subsequence(a, b) : Blocks(a, b).count(0, a.size(), 0, b.size());
  const double ratio = 2.0 * static_cast<double>(common) / static_cast<double>(a.size() + b.size());
  return std::nearbyint(100 * ratio) / 100;  // to even, as Python rounds
}

}  // namespace curdkv::eval
