// How budgets spread over layers and KV heads, and how much selections have in common.
#include <algorithm>
#include <map>

#include "base/format.h"
#include "base/try.h"
#include "report/html.h"
#include "report/sections.h"

namespace curdkv::report {

using namespace curdkv::eval;

namespace {

using Counts = std::vector<std::vector<double>>;  // [layer][KV head]

struct Selection {
  std::string press;
  Counts n_kept;
  std::vector<Json> jaccard;
};

Result<Selection> selection_of(const JsonLine& p, size_t n_presses) {
  Selection s;
  CURDKV_TRY(s.press, p.text("press"));
  const Json &counts = p.object().value("n_kept", Json()), &jaccard = p.object().value("jaccard", Json());
  bool fits = counts.is_array() && !counts.empty() && jaccard.is_array() && jaccard.size() == n_presses;
  for (const Json& layer : counts) {
    fits = fits && layer.is_array() && !layer.empty() && layer.size() == counts[0].size();
    for (const Json& n : layer) fits = fits && n.is_number();
  }
  for (const Json& share : jaccard) fits = fits && (share.is_number() || share.is_null());
  if (!fits) return p.error("fields 'n_kept' and 'jaccard' are no tables of numbers");
  s.n_kept = counts.get<Counts>();
  s.jaccard = jaccard.get<std::vector<Json>>();
  return s;
}

// A square for each KV head, layers from left to right, darker for more; "" where all are alike.
std::string heat_map(const Selection& s, double n_tokens) {
  double least = n_tokens, most = 0, sum = 0;
  for (const auto& layer : s.n_kept) {
    for (const double n : layer) least = std::min(least, n), most = std::max(most, n), sum += n;
  }
  if (least == most) return "";
  constexpr double kLeft = 40, kTop = 22, kCell = 11;
  const auto n_layer = static_cast<double>(s.n_kept.size()), n_head = static_cast<double>(s.n_kept[0].size());
  const double width = kLeft + kCell * n_layer + 8, height = kTop + kCell * n_head + 18;
  std::string out = format("<svg viewBox=\"0 0 %.0f %.0f\" style=\"max-width:%.0fpx\" role=img aria-label=\"",
                           width, height, 1.6 * width) +
                    escaped(s.press) + "\"><text class=title x=0 y=13>" + escaped(s.press) +
                    format(": %.0f to %.0f tokens a head</text>", least, most);
  for (size_t il = 0; il < s.n_kept.size(); ++il) {
    for (size_t h = 0; h < s.n_kept[il].size(); ++h) {
      const double n = s.n_kept[il][h];
      out += format(
          "<rect class=heat x=%.0f y=%.0f width=10 height=10 style=\"fill-opacity:%.2f\"><title>layer %zu, "
          "KV head %zu: %.0f tokens</title></rect>",
          kLeft + kCell * static_cast<double>(il), kTop + kCell * static_cast<double>(h),
          most > 0 ? std::clamp(n / most, 0.0, 1.0) : 0.0, il, h, n);
    }
  }
  for (size_t h = 0; h < s.n_kept[0].size(); ++h)
    out += format("<text x=%.0f y=%.1f text-anchor=end>head %zu</text>", kLeft - 4,
                  kTop + kCell * static_cast<double>(h) + 8.5, h);
  for (size_t il = 0; il < s.n_kept.size(); il += 5)
    out += format("<text x=%.0f y=%.0f>%zu</text>", kLeft + kCell * static_cast<double>(il), height - 6, il);
  return out + "</svg>\n";
}

// presses: indices of those at one ratio.
std::string overlap_table(const std::vector<Selection>& all, const std::vector<size_t>& presses) {
  std::string out = "<div class=wide><table><thead><tr><th scope=col>Jaccard</th>";
  for (const size_t i : presses) out += "<th scope=col>" + breakable(all[i].press) + "</th>";
  out += "</tr></thead><tbody>";
  for (const size_t i : presses) {
    out += "<tr><th scope=row>" + breakable(all[i].press) + "</th>";
    for (const size_t j : presses) {
      const double share = all[i].jaccard[j].is_number() ? all[i].jaccard[j].get<double>() : 0;
      out += format("<td class=shade style=\"--s:%.2f\">", share) + number(share, 2) + "</td>";
    }
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

}  // namespace

Result<std::string> heads_section(const JsonLine& figure) {
  CURDKV_TRY(const std::vector<JsonLine> presses, figure.items("presses"));
  CURDKV_TRY(const int64_t n_tokens, figure.integer("n_tokens"));
  std::vector<Selection> all;
  std::map<double, std::vector<size_t>> by_ratio;
  for (const JsonLine& p : presses) {
    CURDKV_TRY(const double ratio, p.number("compression_ratio"));
    by_ratio[ratio].push_back(all.size());
    CURDKV_TRY(Selection s, selection_of(p, presses.size()));
    all.push_back(std::move(s));
  }
  std::string out;
  for (const auto& [ratio, indices] : by_ratio) {
    out += format("<h3>%.0f %% removed</h3>\n", 100 * ratio);
    for (const size_t i : indices) out += heat_map(all[i], static_cast<double>(n_tokens));
    if (indices.size() > 1) out += overlap_table(all, indices);
  }
  return out +
         "<p class=note>Squares: tokens that each KV head keeps, layers from left to right; presses that "
         "give "
         "every head the same are left out. Jaccard: tokens that two presses both keep, of those that either "
         "keeps, mean over layers and KV heads.</p>\n";
}

}  // namespace curdkv::report
