// Figure 3 of the CurDKV paper: what its scores are made of.
#include <algorithm>
#include <map>

#include "base/format.h"
#include "curdkv/press.h"
#include "report/html.h"
#include "report/plot.h"
#include "report/sections.h"

namespace curdkv::report {

using namespace curdkv::eval;

std::string ablation(const Summary& s) {
  const std::vector<AblationVariant> variants = ablation_variants();
  std::string out;
  for (const double ratio : s.ratios()) {
    std::vector<std::pair<std::string, double>> values;
    std::map<std::string, std::map<std::string, double>> table;  // by what is scored, by how
    std::vector<std::string> what, how;
    for (const AblationVariant& v : variants) {
      if (!s.has({v.press, ratio})) continue;
      const double score = s.average({v.press, ratio}).mean;
      values.emplace_back(v.what + ", " + v.how, score);
      table[v.what][v.how] = score;
      if (std::find(what.begin(), what.end(), v.what) == what.end()) what.push_back(v.what);
      if (std::find(how.begin(), how.end(), v.how) == how.end()) how.push_back(v.how);
    }
    if (what.size() < 2 || how.size() < 2) continue;
    out += "<h4>" + removed_heading(s, ratio) + "</h4>\n<div class=\"panels large\">\n" +
           bars("average score", values, 1) +
           "</div>\n<div class=wide><table><thead><tr><th scope=col>scores of</th>";
    for (const std::string& h : how) out += "<th scope=col>" + escaped(h) + "</th>";
    out += "</tr></thead><tbody>";
    for (const std::string& w : what) {
      out += "<tr><th scope=row>" + escaped(w) + "</th>";
      for (const std::string& h : how) {
        const auto it = table[w].find(h);
        out += "<td>" + (it == table[w].end() ? "" : number(it->second, 1)) + "</td>";
      }
      out += "</tr>\n";
    }
    out += "</tbody></table></div>\n";
  }
  return out.empty()
             ? ""
             : "<h3>What CurDKV's scores are made of</h3>\n" + out +
                   "<p class=note>Average score over tasks, in percent. Row norms as they are, projected by "
                   "a random Gaussian (Algorithm 1), divided by their sum over windows of 16 tokens "
                   "(kvpress), the same with a short last window corrected, and exact leverage scores.</p>\n";
}

}  // namespace curdkv::report
