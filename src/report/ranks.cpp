#include <algorithm>
#include <numeric>

#include "base/format.h"
#include "report/html.h"
#include "report/press_names.h"
#include "report/sections.h"

namespace curdkv::report {

using namespace curdkv::eval;

namespace {

constexpr double kWidth = 860, kSide = 255, kRow = 17, kAxis = 52;

// Critical-difference diagram (Demsar 2006): the better half of the presses on the left, the others on the
// right.
std::string diagram(const Friedman& f, const std::vector<std::string>& presses) {
  const size_t k = presses.size();
  std::vector<size_t> order(k);
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return f.mean_ranks[a] < f.mean_ranks[b]; });
  const auto x = [&](double rank) {
    return kSide + (rank - 1) / static_cast<double>(k - 1) * (kWidth - 2 * kSide);
  };
  std::string marks;
  for (size_t r = 1; r <= k; ++r) {
    const double at = x(static_cast<double>(r));
    marks += format("<line class=axis x1=%.1f x2=%.1f y1=%.0f y2=%.0f />", at, at, kAxis - 4, kAxis) +
             format("<text x=%.1f y=%.0f text-anchor=middle>%zu</text>", at, kAxis - 8, r);
  }
  // Groups of neighbours within the critical difference, each as long as it can be.
  double y = kAxis + 8;
  size_t reached = 0;
  for (size_t i = 0; i < k; ++i) {
    size_t end = i;
    while (end + 1 < k && f.mean_ranks[order[end + 1]] - f.mean_ranks[order[i]] < f.critical_difference)
      ++end;
    if (end > i && end > reached) {
      marks += format("<line class=group x1=%.1f x2=%.1f y1=%.1f y2=%.1f />", x(f.mean_ranks[order[i]]) - 3,
                      x(f.mean_ranks[order[end]]) + 3, y, y);
      y += 6;
      reached = end;
    }
  }
  size_t longest = 0;
  for (const std::string& press : presses) longest = std::max(longest, press.size() + 6);
  const double size = std::min(12.0, (kSide - 16) / (0.58 * static_cast<double>(longest)));  // to fit
  const size_t n_left = (k + 1) / 2;
  const double first_label = y + 14;
  for (size_t i = 0; i < k; ++i) {
    const bool left = i < n_left;
    const double rank = f.mean_ranks[order[i]], at = x(rank),
                 label = first_label + kRow * static_cast<double>(left ? i : k - 1 - i),
                 end = left ? kSide - 8 : kWidth - kSide + 8;
    marks += format("<polyline class=leader points=\"%.1f,%.0f %.1f,%.1f %.1f,%.1f\"/>", at, kAxis, at, label,
                    end, label) +
             format("<text x=%.1f y=%.1f text-anchor=%s style=\"font-size:%.1fpx\">",
                    left ? end - 4 : end + 4, label + 3.5, left ? "end" : "start", size) +
             escaped(presses[order[i]]) + format("  %.2f</text>", rank);
  }
  const double bar = std::min(f.critical_difference / static_cast<double>(k - 1), 1.0) * (kWidth - 2 * kSide);
  marks += format("<line class=group x1=%.1f x2=%.1f y1=14 y2=14 /><text x=%.1f y=18>", kSide, kSide + bar,
                  kSide + bar + 6) +
           format("critical difference %.2f</text>", f.critical_difference);
  const double height = first_label + kRow * static_cast<double>(n_left);
  return format(
             "<div class=wide><svg class=ranks viewBox=\"0 0 %.0f %.0f\" role=img aria-label=\"mean ranks\">",
             kWidth, height) +
         format("<line class=axis x1=%.1f x2=%.1f y1=%.0f y2=%.0f />", kSide, kWidth - kSide, kAxis, kAxis) +
         marks + "</svg></div>\n";
}

}  // namespace

std::string rank_diagrams(const Summary& s) {
  std::string out;
  for (const double ratio : s.ratios()) {
    const auto f = s.test(ratio);
    if (!f) continue;
    out += "<h4>" + removed_heading(s, ratio) + "</h4>\n" +
           format("<p>Friedman Q = %.2f, k = %zu presses, n = %zu tasks, p = %.2g.", f->statistic,
                  f->n_methods, f->n_blocks, f->p_value) +
           (f->p_value < 0.05 ? "" : " Not significant at 5 %.") + "</p>\n" +
           diagram(*f, short_names(s.presses_at(ratio)));
  }
  if (out.empty()) return "<p>Ranks need at least two tasks and two presses at the same ratio.</p>\n";
  return out +
         "<p class=note>Mean ranks over tasks, 1 is best. Joined by a bar: no difference at 5 % by Nemenyi's "
         "test, which "
         "takes tasks, not samples, as its blocks.</p>\n";
}

}  // namespace curdkv::report
