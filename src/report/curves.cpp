#include <algorithm>

#include "base/format.h"
#include "report/html.h"
#include "report/press_names.h"
#include "report/sections.h"

namespace curdkv::report {

using namespace curdkv::eval;

namespace {

constexpr double kWidth = 250, kHeight = 170, kLeft = 34, kRight = 14, kTop = 24, kBottom = 30;

struct Point {
  double ratio;
  Interval score;
  std::string bytes;
};

double x_of(double ratio) {
  return kLeft + ratio * (kWidth - kLeft - kRight);
}

double y_of(double score, double top) {
  return kHeight - kBottom - score / top * (kHeight - kTop - kBottom);
}

std::string line_through(const std::vector<Point>& points, double top, const char* style) {
  std::string out = format("<polyline class=%s points=\"", style);
  for (const Point& p : points) out += format("%.1f,%.1f ", x_of(p.ratio), y_of(p.score.mean, top));
  return out + "\"/>";
}

std::string band(const std::vector<Point>& points, double top) {
  std::string out = "<polygon class=band points=\"";
  for (const Point& p : points) out += format("%.1f,%.1f ", x_of(p.ratio), y_of(p.score.high, top));
  for (auto p = points.rbegin(); p != points.rend(); ++p) {
    out += format("%.1f,%.1f ", x_of(p->ratio), y_of(p->score.low, top));
  }
  return out + "\"/>";
}

std::string axes(double top) {
  std::string out;
  for (int i = 0; i <= 4; ++i) {
    const double score = top * i / 4, y = y_of(score, top);
    out += format("<line class=grid x1=%.0f x2=%.0f y1=%.1f y2=%.1f />", kLeft, kWidth - kRight, y, y) +
           format("<text x=%.0f y=%.1f text-anchor=end>%.0f</text>", kLeft - 5, y + 3.5, score);
  }
  for (const double ratio : {0.0, 0.25, 0.5, 0.75, 1.0}) {
    out += format("<text x=%.1f y=%.0f text-anchor=middle>%.0f</text>", x_of(ratio), kHeight - kBottom + 14,
                  100 * ratio);
  }
  return out + format("<text class=label x=%.1f y=%.0f text-anchor=middle>%% of the cache removed</text>",
                      (kLeft + kWidth - kRight) / 2, kHeight - 3);
}

}  // namespace

std::string score_curves(const Summary& s) {
  const Interval full = s.average(kFullCache);
  std::map<std::string, std::vector<Point>> curves;
  double top = full.high;
  for (const std::string& press : s.presses()) {
    std::vector<Point>& points = curves[press];
    points.push_back({0, full, bytes_text(s, kFullCache)});
    for (const double ratio : s.ratios()) {
      if (s.has({press, ratio}))
        points.push_back({ratio, s.average({press, ratio}), bytes_text(s, {press, ratio})});
    }
    for (const Point& p : points) top = std::max(top, p.score.high);
  }
  top = top > 60 ? 100 : top > 40 ? 60 : top > 20 ? 40 : 20;
  std::string out = "<div class=panels>\n";
  const std::vector<std::string> names = short_names(s.presses());
  for (size_t i = 0; i < names.size(); ++i) {
    const std::string& press = s.presses()[i];
    out += format("<svg viewBox=\"0 0 %.0f %.0f\" role=img aria-label=\"", kWidth, kHeight) + escaped(press) +
           ": average score against the ratio\">" + axes(top);
    for (const auto& [other, points] : curves) {
      if (other != press) out += line_through(points, top, "other");
    }
    const std::vector<Point>& own = curves[press];
    out += band(own, top) +
           format("<line class=full x1=%.0f x2=%.0f y1=%.1f y2=%.1f />", kLeft, kWidth - kRight,
                  y_of(full.mean, top), y_of(full.mean, top)) +
           line_through(own, top, "own");
    for (const Point& p : own) {
      out += format(
          "<circle class=own cx=%.1f cy=%.1f r=3><title>%.3g %%: %.1f (%.1f–%.1f), %s</title></circle>",
          x_of(p.ratio), y_of(p.score.mean, top), 100 * p.ratio, p.score.mean, p.score.low, p.score.high,
          p.bytes.c_str());
    }
    const double size =
        std::min(11.0, 2 * (kWidth - kLeft) / static_cast<double>(names[i].size()) / 1.2);  // to fit
    out += format("<text class=title x=%.0f y=14 style=\"font-size:%.1fpx\">", kLeft, size) +
           escaped(names[i]) + "<title>" + escaped(press) + "</title></text></svg>\n";
  }
  return out +
         "</div>\n<p class=note>Average score over tasks, in percent. Band: 95 % bootstrap interval; dashed: "
         "full "
         "cache; grey: the other presses.</p>\n";
}

}  // namespace curdkv::report
