// What is left of the answers for what is left of the bytes: the measure that presses which keep rows, fewer
// bits of them, or both have in common.
#include <algorithm>
#include <cmath>

#include "base/format.h"
#include "report/html.h"
#include "report/plot.h"
#include "report/press_names.h"
#include "report/sections.h"

namespace curdkv::report {

using namespace curdkv::eval;

namespace {

constexpr Plot::Size kSize = {520, 260};

struct Curve {
  Plot::Points points;  // percent of the full cache's bytes, average score; ascending
  std::vector<std::string> titles;
};

Curve curve_of(const Summary& s, const std::string& press) {
  struct Point {
    double bytes, score;
    std::string title;
  };
  std::vector<Point> points;
  for (const double ratio : s.ratios()) {
    const Method method = {press, ratio};
    if (!s.has(method)) continue;
    const Interval score = s.average(method);
    points.push_back({100 * s.mean_share_of_bytes(method), score.mean,
                      press + format(" at %g: %.1f (%.1f–%.1f), ", ratio, score.mean, score.low, score.high) +
                          bytes_text(s, method)});
  }
  std::stable_sort(points.begin(), points.end(),
                   [](const auto& a, const auto& b) { return a.bytes < b.bytes; });
  Curve out;
  for (Point& p : points) {
    if (!(p.bytes > 0)) continue;  // nowhere on a logarithmic axis
    out.points.emplace_back(p.bytes, p.score);
    out.titles.push_back(std::move(p.title));
  }
  return out;
}

// 1, 2 and 5 of every power of ten, from the last at or below low to the first at or above high.
std::vector<double> round_marks(double low, double high) {
  std::vector<double> marks;
  for (double power = std::pow(10, std::floor(std::log10(low))); marks.empty() || marks.back() < high;
       power *= 10) {
    for (const double step : {1.0, 2.0, 5.0}) {
      if (!marks.empty() && marks.back() >= high) break;
      if (step * power <= low * (1 + 1e-9)) marks.clear();
      marks.push_back(step * power);
    }
  }
  return marks;
}

}  // namespace

std::string bytes_text(const Summary& s, const Method& method) {
  return format("%.3g %% of the bytes, %.3g MiB", 100 * s.mean_share_of_bytes(method),
                s.mean_kv_bytes(method) / (1 << 20));
}

std::string removed_heading(const Summary& s, double ratio) {
  double least = INFINITY, most = 0;
  for (const std::string& press : s.presses_at(ratio)) {
    const double percent = 100 * s.mean_share_of_bytes({press, ratio});
    least = std::min(least, percent), most = std::max(most, percent);
  }
  const std::string from = format("%.3g", least), to = format("%.3g", most);
  return format("%.3g %% removed, ", 100 * ratio) + from + (from == to ? "" : " to " + to) +
         " % of the bytes kept";
}

std::string answers_against_bytes(const Summary& s) {
  const Interval full = s.average(kFullCache);
  std::vector<Curve> curves;
  double least = 100, most = 100, top = full.mean;
  for (const std::string& press : s.presses()) {
    curves.push_back(curve_of(s, press));
    for (const auto& [bytes, score] : curves.back().points)
      least = std::min(least, bytes), most = std::max(most, bytes), top = std::max(top, score);
  }
  least = std::max(least, most / 1e6);  // so few marks that they can be told apart
  Plot plot("average score, %", "KV cache kept, % of the full cache's bytes",
            Scale::logarithmic_at(round_marks(least, most)), Scale::linear(0, std::max(top, 1.0)), "", kSize);
  plot.level("full cache",
             format("%.1f (%.1f–%.1f), ", full.mean, full.low, full.high) + bytes_text(s, kFullCache),
             full.mean);
  for (size_t i = 0; i < curves.size(); ++i) plot.line(curves[i].points, curves[i].titles, i);
  return "<div class=first>\n" + plot.svg() + legend(short_names(s.presses()), s.presses()) +
         "</div>\n<p class=note>Average score over tasks; dashed: the full cache. Bytes: of the compressed "
         "context, "
         "mean over samples of its share of the same context's full cache, whatever the ratio counts. The "
         "axis of "
         "bytes is logarithmic.</p>\n";
}

}  // namespace curdkv::report
