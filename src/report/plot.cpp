#include "report/plot.h"

#include <cmath>

#include "base/format.h"
#include "report/html.h"

namespace curdkv::report {
namespace {

constexpr double kWidth = 360, kHeight = 250, kLeft = 46, kRight = 18, kTop = 24, kBottom = 34;

std::string mark(double value) {
  return value >= 1024 && std::fmod(value, 1024) == 0 ? format("%.0fK", value / 1024) : format("%g", value);
}

}  // namespace

Scale Scale::linear(double low, double high) {
  if (!(high > low)) high = low + 1;
  const double rough = (high - low) / 4, power = std::pow(10, std::floor(std::log10(rough)));
  const double step = power * (rough / power < 1.5   ? 1
                               : rough / power < 3.5 ? 2
                               : rough / power < 7.5 ? 5
                                                     : 10);
  Scale s = {false, std::floor(low / step + 1e-9) * step, std::ceil(high / step - 1e-9) * step, {}};
  for (int i = 0; s.low + i * step <= s.high + step / 2; ++i) {
    const double x = s.low + i * step;
    s.marks.push_back(std::abs(x) < step / 1e6 ? 0 : x);
  }
  return s;
}

Scale Scale::decades(double low, double high) {
  Scale s = {true,
             std::pow(10, std::floor(std::log10(low))),
             std::pow(10, std::ceil(std::log10(high * 1.0001))),
             {}};
  const double step = std::pow(10, std::ceil(std::log10(s.high / s.low) / 8));  // not too many marks
  for (double x = s.low; x <= s.high * 1.001; x *= step) s.marks.push_back(x);
  return s;
}

Scale Scale::logarithmic_at(const std::vector<double>& x) {
  return {true, x.front(), x.front() == x.back() ? 2 * x.front() : x.back(), x};
}

double Scale::share(double x) const {
  return logarithmic ? std::log(x / low) / std::log(high / low) : (x - low) / (high - low);
}

double Plot::x_of(double x) const {
  return kLeft + x_.share(x) * (kWidth - kLeft - kRight);
}
double Plot::y_of(double y) const {
  return kHeight - kBottom - y_.share(y) * (kHeight - kTop - kBottom);
}

Plot::Plot(const std::string& title, const std::string& x_label, Scale x, Scale y, const std::string& y_label)
    : x_(std::move(x)), y_(std::move(y)) {
  out_ = format("<svg viewBox=\"0 0 %.0f %.0f\" role=img aria-label=\"", kWidth, kHeight) + escaped(title) +
         "\">" + format("<text class=title x=%.0f y=14>", kLeft) + escaped(title) + "</text>";
  for (const double at : y_.marks) {
    out_ += format("<line class=grid x1=%.0f x2=%.0f y1=%.1f y2=%.1f />", kLeft, kWidth - kRight, y_of(at),
                   y_of(at)) +
            format("<text x=%.0f y=%.1f text-anchor=end>%g</text>", kLeft - 5, y_of(at) + 3.5, at);
  }
  for (const double at : x_.marks) {
    out_ += format("<text x=%.1f y=%.0f text-anchor=middle>%s</text>", x_of(at), kHeight - kBottom + 14,
                   mark(at).c_str());
  }
  out_ += format("<text class=label x=%.1f y=%.0f text-anchor=middle>", (kLeft + kWidth - kRight) / 2,
                 kHeight - 4) +
          escaped(x_label) + "</text>";
  if (!y_label.empty()) {
    const double middle = (kHeight - kBottom + kTop) / 2;
    out_ += format("<text class=label x=9 y=%.0f text-anchor=middle transform=\"rotate(-90 9 %.0f)\">",
                   middle, middle) +
            escaped(y_label) + "</text>";
  }
}

void Plot::line(const std::string& name, const Points& points, size_t colour) {
  const std::string style = format("class=\"line c%zu\"", colour % kLineColours);
  std::string through;
  for (const auto& [x, y] : points) through += format("%.1f,%.1f ", x_of(x), y_of(y));
  out_ += "<polyline " + style + " points=\"" + through + "\"/>";
  for (const auto& [x, y] : points) {
    out_ += "<circle " + style + format(" cx=%.1f cy=%.1f r=2.6><title>", x_of(x), y_of(y)) + escaped(name) +
            format(", %s: %.3g</title></circle>", mark(x).c_str(), y);
  }
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
  for (const auto& [name, value] : values) most = std::max(most, value);
  const double height = kTop + kBar * static_cast<double>(values.size()) + 4;
  std::string out = format("<svg viewBox=\"0 0 %.0f %.0f\" role=img aria-label=\"", kWidth, height) +
                    escaped(title) + "\"><text class=title x=0 y=14>" + escaped(title) + "</text>";
  double y = kTop;
  for (const auto& [name, value] : values) {
    const double width = most > 0 ? value / most * (kWidth - kNames - kNumbers) : 0;
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

std::string legend(const std::vector<std::string>& names) {
  std::string out;
  for (size_t i = 0; i < names.size(); ++i) {
    out += format(
               "<span><svg class=key viewBox=\"0 0 20 8\"><polyline class=\"line c%zu\" points=\"0,4 "
               "20,4\"/></svg> ",
               i % kLineColours) +
           escaped(names[i]) + "</span>\n";
  }
  return "<div class=legend>" + out + "</div>\n";
}

}  // namespace curdkv::report
