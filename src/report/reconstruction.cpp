// Figure 2 of the CurDKV paper: losses of Q K^T and of the attention's output by press and ratio.
#include <algorithm>
#include <map>

#include "base/format.h"
#include "base/try.h"
#include "report/html.h"
#include "report/plot.h"
#include "report/sections.h"

namespace curdkv::report {

using namespace curdkv::eval;

namespace {

constexpr struct {
  const char *field, *head;
  int digits;
} kColumns[] = {
    {"qk_relative", "QKᵀ, relative", 4},     {"output_relative", "softmax(QKᵀ)V, relative", 4},
    {"output_zeroed_relative", "zeroed", 4}, {"qk", "QKᵀ, absolute", 1},
    {"output", "softmax(QKᵀ)V", 2},          {"output_zeroed", "zeroed", 2},
    {"bound", "lemma 3.1's bound", 0},       {"most_of_bound", "nearest to it", 3},
};

struct Entry {
  std::string press;
  std::map<std::string, double> values;  // by field
};

std::string bars_of(const std::string& title, const std::vector<Entry>& entries, const char* field) {
  std::vector<std::pair<std::string, double>> values;
  for (const Entry& e : entries) values.emplace_back(e.press, e.values.at(field));
  std::stable_sort(values.begin(), values.end(),
                   [](const auto& a, const auto& b) { return a.second < b.second; });
  return bars(title, values, 3);
}

std::string table_of(const std::vector<Entry>& entries) {
  std::string out = "<div class=wide><table><thead><tr><th scope=col>press</th>";
  for (const auto& c : kColumns) out += std::string("<th scope=col>") + c.head + "</th>";
  out += "</tr></thead><tbody>";
  for (const Entry& e : entries) {
    out += "<tr><th scope=row>" + breakable(e.press) + "</th>";
    for (const auto& c : kColumns) out += "<td>" + number(e.values.at(c.field), c.digits) + "</td>";
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

Result<std::string> low_rank_table(const JsonLine& figure) {
  CURDKV_TRY(const std::vector<JsonLine> rows, figure.items("low_rank"));
  std::string out =
      "<h3>Keys and values of low rank</h3>\n<div class=wide><table><thead><tr><th scope=col>rank</th><th "
      "scope=col>keys, best</th><th scope=col>keys, CUR</th><th scope=col>values, best</th><th "
      "scope=col>values, CUR</th></tr></thead><tbody>";
  for (const JsonLine& row : rows) {
    CURDKV_TRY(const int64_t rank, row.integer("rank"));
    out += format("<tr><th scope=row>%lld</th>", (long long)rank);
    for (const char* field : {"keys_svd", "keys_cur", "values_svd", "values_cur"}) {
      CURDKV_TRY(const double error, row.number(field));
      out += "<td>" + number(error, 4) + "</td>";
    }
    out += "</tr>\n";
  }
  return out +
         "</tbody></table></div>\n<p class=note>Relative Frobenius error, mean over layers and KV heads: the "
         "best approximation of that rank, and CUR from as many rows and columns of the highest leverage "
         "(section 3.1). The rank is that share of the dimensions which the ratio keeps of the tokens: of as "
         "many rows as a press keeps tokens, CUR is exact, since keys and values have no more directions "
         "than "
         "dimensions.</p>\n";
}

}  // namespace

Result<std::string> reconstruction_section(const JsonLine& figure) {
  CURDKV_TRY(const std::vector<JsonLine> presses, figure.items("presses"));
  std::map<double, std::vector<Entry>> by_ratio;
  for (const JsonLine& p : presses) {
    Entry entry;
    CURDKV_TRY(entry.press, p.text("press"));
    CURDKV_TRY(const double ratio, p.number("compression_ratio"));
    for (const auto& c : kColumns) {
      CURDKV_TRY(entry.values[c.field], p.number(c.field));
    }
    by_ratio[ratio].push_back(std::move(entry));
  }
  std::string out;
  for (const auto& [ratio, entries] : by_ratio) {
    out += format("<h3>%.0f %% removed</h3>\n", 100 * ratio) + "<div class=\"panels large\">\n" +
           bars_of("loss of QKᵀ, relative", entries, "qk_relative") +
           bars_of("loss of softmax(QKᵀ)V, relative", entries, "output_relative") + "</div>\n" +
           table_of(entries);
  }
  CURDKV_TRY(const std::string low_rank, low_rank_table(figure));
  return out +
         "<p class=note>Frobenius norms, causal attention with the model's own queries, mean over layers and "
         "query heads; relative: to the full cache's norm, head by head. Evicted keys are gone; zeroed: they "
         "are rows of zeros that still take attention, as in lemma 3.1, whose bound is √n ‖V − V′‖ + 2 √n "
         "‖V′‖. Nearest to it: the largest share of its bound that any head's loss reached.</p>\n" +
         low_rank;
}

}  // namespace curdkv::report
