#include "report/plot.h"

#include <algorithm>
#include <cmath>

#include "base/format.h"
#include "report/html.h"

namespace curdkv::report {
namespace {

constexpr double kWidth = 360, kHeight = 250, kLeft = 46, kRight = 18, kTop = 24, kBottom = 34;

// Numbers that a scale can reach: beyond them sums and powers of ten overflow.
constexpr double kMost = 1e300, kLeast = 1e-300;

double within(double x, double low, double high) {
  return x >= low ? std::min(x, high) : low;  // NaN is low
}

std::string mark(double value) {
  return value >= 1024 && std::fmod(value, 1024) == 0 ? format("%.0fK", value / 1024) : format("%g", value);
}

// Colours first, then the same with dashes.
std::string line_classes(size_t style) {
  return format("class=\"line c%zu d%zu\"", style % kLineColours, style / kLineColours % 3);
}

}  // namespace

Scale Scale::linear(double low, double high) {
  low = within(low, -kMost, kMost);
  high = within(high, -kMost, kMost);
  if (!(high - low > 1e-9 * std::max(std::abs(low), std::abs(high)))) {  // too near for marks between them
    high = low + std::max(1.0, 1e-6 * std::abs(low));
  }
  const double rough = (high - low) / 4, power = std::pow(10, std::floor(std::log10(rough)));
  const double step = power * (rough / power < 1.5   ? 1
                               : rough / power < 3.5 ? 2
                               : rough / power < 7.5 ? 5
                                                     : 10);
  Scale s = {false, std::floor(low / step + 1e-9) * step, std::ceil(high / step - 1e-9) * step, {}};
  constexpr int kMostMarks = 12;
  for (int i = 0; i < kMostMarks && s.low + i * step <= s.high + step / 2; ++i) {
    const double x = s.low + i * step;
    s.marks.push_back(std::abs(x) < step / 1e6 ? 0 : x);
  }
  return s;
}

Scale Scale::decades(double low, double high) {
  low = within(low, kLeast, kMost);
  high = within(high, low, kMost);
  const double first = std::floor(std::log10(low)), last = std::ceil(std::log10(high * 1.0001));
  Scale s = {true, std::pow(10, first), std::pow(10, last), {}};
  const double step = std::max(1.0, std::ceil((last - first) / 8));  // not too many marks
  for (double power = first; power <= last; power += step) s.marks.push_back(std::pow(10, power));
  return s;
}

Scale Scale::logarithmic_at(const std::vector<double>& x) {
  Scale s = {true, within(x.front(), kLeast, kMost), within(x.back(), kLeast, kMost), {}};
  if (!(s.high > s.low)) s.high = 2 * s.low;
  const size_t step = (x.size() + 11) / 12;
  for (size_t i = 0; i < x.size(); i += step) s.marks.push_back(x[i]);
  return s;
}

double Scale::share(double x) const {
  if (!logarithmic) return within((within(x, -kMost, kMost) - low) / (high - low), -1, 2);
  return within((std::log(within(x, kLeast, kMost)) - std::log(low)) / (std::log(high) - std::log(low)), -1,
                2);
}

double Plot::x_of(double x) const {
  return kLeft + x_.share(x) * (size_.width - kLeft - kRight);
}
double Plot::y_of(double y) const {
  return size_.height - kBottom - y_.share(y) * (size_.height - kTop - kBottom);
}

Plot::Plot(const std::string& title, const std::string& x_label, Scale x, Scale y, const std::string& y_label,
           Size size)
    : size_(size), x_(std::move(x)), y_(std::move(y)) {
  out_ = format("<svg viewBox=\"0 0 %.0f %.0f\" role=img aria-label=\"", size_.width, size_.height) +
         escaped(title) + "\">" + format("<text class=title x=%.0f y=14>", kLeft) + escaped(title) +
         "</text>";
  for (const double at : y_.marks) {
    out_ += format("<line class=grid x1=%.0f x2=%.0f y1=%.1f y2=%.1f />", kLeft, size_.width - kRight,
                   y_of(at), y_of(at)) +
            format("<text x=%.0f y=%.1f text-anchor=end>%g</text>", kLeft - 5, y_of(at) + 3.5, at);
  }
  for (const double at : x_.marks) {
    out_ += format("<text x=%.1f y=%.0f text-anchor=middle>%s</text>", x_of(at), size_.height - kBottom + 14,
                   mark(at).c_str());
  }
  out_ += format("<text class=label x=%.1f y=%.0f text-anchor=middle>", (kLeft + size_.width - kRight) / 2,
                 size_.height - 4) +
          escaped(x_label) + "</text>";
  if (!y_label.empty()) {
    const double middle = (size_.height - kBottom + kTop) / 2;
    out_ += format("<text class=label x=9 y=%.0f text-anchor=middle transform=\"rotate(-90 9 %.0f)\">",
                   middle, middle) +
            escaped(y_label) + "</text>";
  }
}

void Plot::line(const Points& points, const std::vector<std::string>& titles, size_t style) {
  const std::string classes = line_classes(style);
  std::string through;
  for (const auto& [x, y] : points) through += format("%.1f,%.1f ", x_of(x), y_of(y));
  out_ += "<polyline " + classes + " points=\"" + through + "\"/>";
  for (size_t i = 0; i < points.size(); ++i) {
    out_ += "<circle " + classes +
            format(" cx=%.1f cy=%.1f r=2.6><title>", x_of(points[i].first), y_of(points[i].second)) +
            escaped(titles[i]) + "</title></circle>";
  }
}

void Plot::line(const std::string& name, const Points& points, size_t style) {
  std::vector<std::string> titles;
  for (const auto& [x, y] : points) titles.push_back(name + format(", %s: %.3g", mark(x).c_str(), y));
  line(points, titles, style);
}

void Plot::level(const std::string& name, const std::string& title, double y) {
  const double right = size_.width - kRight;
  out_ += format("<line class=full x1=%.0f x2=%.0f y1=%.1f y2=%.1f><title>", kLeft, right, y_of(y), y_of(y)) +
          escaped(name + ": " + title) + "</title></line>" +
          format("<text x=%.0f y=%.1f text-anchor=end>", right, y_of(y) + 11) + escaped(name) + "</text>";
}

void Plot::dots(const Points& points, size_t colour) {
  out_ += format("<g class=\"dots c%zu\">", colour % kLineColours);
  for (const auto& [x, y] : points) out_ += format("<circle cx=%.1f cy=%.1f r=1.3 />", x_of(x), y_of(y));
  out_ += "</g>";
}

std::string bars(const std::string& title, const std::vector<std::pair<std::string, double>>& values,
                 int digits) {
  constexpr double kNames = 136, kNumbers = 40, kBar = 15;
  double most = 0;
  for (const auto& [name, value] : values) most = std::max(most, within(value, 0, kMost));
  const double height = kTop + kBar * static_cast<double>(values.size()) + 4;
  std::string out = format("<svg viewBox=\"0 0 %.0f %.0f\" role=img aria-label=\"", kWidth, height) +
                    escaped(title) + "\"><text class=title x=0 y=14>" + escaped(title) + "</text>";
  double y = kTop;
  for (const auto& [name, value] : values) {
    const double width = most > 0 ? within(value, 0, kMost) / most * (kWidth - kNames - kNumbers) : 0;
    const double size = std::min(10.0, kNames / (0.62 * static_cast<double>(name.size())));  // to fit
    out +=
        format("<text x=%.0f y=%.1f text-anchor=end style=\"font-size:%.1fpx\">", kNames - 5, y + 10, size) +
        escaped(name) + "</text>" +
        format("<rect class=bar x=%.0f y=%.1f width=%.1f height=%.0f />", kNames, y + 2, width, kBar - 4) +
        format("<text x=%.1f y=%.1f>%s</text>", kNames + width + 4, y + 10, number(value, digits).c_str());
    y += kBar;
  }
  return out + "</svg>\n";
}

std::string legend(const std::vector<std::string>& names, const std::vector<std::string>& titles) {
  std::string out;
  for (size_t i = 0; i < names.size(); ++i) {
    out += (titles.empty() ? "<span>" : "<span title=\"" + escaped(titles[i]) + "\">") +
           "<svg class=key viewBox=\"0 0 28 8\"><polyline " + line_classes(i) +
           " points=\"0,4 28,4\"/></svg> " + escaped(names[i]) + "</span>\n";
  }
  return "<div class=legend>" + out + "</div>\n";
}

}  // namespace curdkv::report
