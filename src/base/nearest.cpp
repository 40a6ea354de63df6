#include "base/nearest.h"

#include <algorithm>

namespace curdkv {
namespace {

constexpr size_t kMostLetters = 64;  // of what was typed; no name is as long
constexpr size_t kAlike = 4;         // first letters in common, with which half of all may differ

// In lower case, without the dashes of an option.
std::string plain(const std::string& text) {
  std::string out = text.substr(std::min(text.find_first_not_of('-'), text.size()), kMostLetters);
  for (char& c : out) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return out;
}

// Letters to insert, remove, replace or swap with their neighbour.
size_t edits_between(const std::string& a, const std::string& b) {
  std::vector<std::vector<size_t>> d(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
  for (size_t j = 0; j <= b.size(); ++j) d[0][j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
      }
    }
  }
  return d[a.size()][b.size()];
}

size_t letters_in_common(const std::string& a, const std::string& b) {
  const auto end = std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first;
  return static_cast<size_t>(end - a.begin());
}

}  // namespace

std::string nearest(const std::string& typed, const std::vector<std::string>& names) {
  const std::string asked = plain(typed);
  std::string best;
  size_t fewest = std::string::npos;
  for (const std::string& name : names) {
    const std::string known = plain(name);
    const size_t common = letters_in_common(asked, known);
    const size_t most = asked.size() / (common >= kAlike ? 2 : 3);
    const bool begun = common > 1 && common == asked.size();
    const size_t n = begun ? std::min<size_t>(1, known.size() - common) : edits_between(asked, known);
    if ((begun || n <= most) && n < fewest) {
      fewest = n;
      best = name;
    }
  }
  return best;
}

std::string did_you_mean(const std::string& typed, const std::vector<std::string>& names) {
  const std::string name = nearest(typed, names);
  return name.empty() ? "" : " (did you mean '" + name + "'?)";
}

}  // namespace curdkv
