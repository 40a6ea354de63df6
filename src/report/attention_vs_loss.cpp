// Figure 1 of the CurDKV paper: a panel for each sampled head, and its rank correlation.
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

constexpr size_t kDots = 500;  // of a panel

// At most kDots of the keys, evenly spaced; those without attention or loss have no place on the axes.
Plot::Points points_of(const std::vector<double>& attention, const std::vector<double>& loss) {
  Plot::Points out;
  const size_t step = std::max<size_t>(1, attention.size() / kDots);
  for (size_t i = 0; i < attention.size(); i += step) {
    if (attention[i] > 0 && loss[i] > 0) out.emplace_back(attention[i], loss[i]);
  }
  return out;
}

std::string panel(const std::string& title, const Plot::Points& points) {
  if (points.empty()) return "";
  const auto by_second = [](const auto& a, const auto& b) { return a.second < b.second; };
  const auto [left, right] = std::minmax_element(points.begin(), points.end());
  const auto [bottom, top] = std::minmax_element(points.begin(), points.end(), by_second);
  Plot plot(title, "mean attention", Scale::decades(left->first, right->first),
            Scale::decades(bottom->second, top->second), "loss");
  plot.dots(points, 0);
  return plot.svg();
}

}  // namespace

Result<std::string> attention_vs_loss_section(const JsonLine& figure) {
  CURDKV_TRY(const std::vector<JsonLine> heads, figure.items("heads"));
  CURDKV_TRY(const int64_t n_tokens, figure.integer("n_tokens"));
  std::string panels;
  std::map<int64_t, std::map<int64_t, double>> correlations;  // by layer and head
  for (const JsonLine& h : heads) {
    CURDKV_TRY(const int64_t layer, h.integer("layer"));
    CURDKV_TRY(const int64_t head, h.integer("head"));
    CURDKV_TRY(const double spearman, h.number("spearman"));
    CURDKV_TRY(const std::vector<double> attention, h.numbers("attention"));
    CURDKV_TRY(const std::vector<double> loss, h.numbers("loss"));
    if (attention.size() != loss.size()) return h.error("fields 'attention' and 'loss' differ in length");
    correlations[layer][head] = spearman;
    panels += panel(format("layer %lld, head %lld: ρ = %.2f", (long long)layer, (long long)head, spearman),
                    points_of(attention, loss));
  }
  std::string table;
  for (const auto& [layer, of_heads] : correlations) {
    if (table.empty()) {
      table = "<div class=wide><table><thead><tr><th scope=col>layer</th>";
      for (const auto& [head, rho] : of_heads)
        table += format("<th scope=col>head %lld</th>", (long long)head);
      table += "</tr></thead><tbody>";
    }
    table += format("<tr><th scope=row>%lld</th>", (long long)layer);
    for (const auto& [head, rho] : of_heads) table += "<td>" + number(rho, 3) + "</td>";
    table += "</tr>\n";
  }
  return "<div class=\"panels large\">\n" + panels + "</div>\n<h3>Spearman's rank correlation</h3>\n" +
         table +
         format(
             "</tbody></table></div>\n<p class=note>Each of the document's %lld keys: its mean attention "
             "from the queries that see it, against the Frobenius norm of the change of softmax(QKᵀ)V when "
             "that key and its value alone are evicted. Both axes are logarithmic; at most %zu keys of a "
             "head are drawn, all are in the correlations.</p>\n",
             (long long)n_tokens, kDots);
}

}  // namespace curdkv::report
