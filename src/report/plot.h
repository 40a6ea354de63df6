// A plot of lines or points in one panel, as SVG.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace curdkv::report {

inline constexpr size_t kLineColours = 8;  // that the page's style has; then their lines are dashed

// An axis from low to high with marks.
struct Scale {
  bool logarithmic = false;
  double low = 0, high = 1;
  std::vector<double> marks;

  static Scale linear(double low, double high);               // from and to round numbers
  static Scale decades(double low, double high);              // logarithmic, from and to powers of ten
  static Scale logarithmic_at(const std::vector<double>& x);  // a mark for each, ascending and positive
  double share(double x) const;                               // 0 at low, 1 at high
};

class Plot {
 public:
  struct Size {
    double width = 360, height = 250;
  };
  Plot(const std::string& title, const std::string& x_label, Scale x, Scale y, const std::string& y_label,
       Size size);
  Plot(const std::string& title, const std::string& x_label, Scale x, Scale y,
       const std::string& y_label = "")
      : Plot(title, x_label, std::move(x), std::move(y), y_label, Size()) {}

  using Points = std::vector<std::pair<double, double>>;
  // A line through points that say who they are when pointed at; by default name, x and y.
  void line(const Points& points, const std::vector<std::string>& titles, size_t style);
  void line(const std::string& name, const Points& points, size_t style);
  // What the lines are compared with, dashed, its name on it; the title as theirs.
  void level(const std::string& name, const std::string& title, double y);
  void dots(const Points& points, size_t colour);  // many, small
  std::string svg() const { return out_ + "</svg>\n"; }

 private:
  double x_of(double x) const;
  double y_of(double y) const;

  Size size_;
  Scale x_, y_;
  std::string out_;
};

// A bar for each name, from 0, the value behind it.
std::string bars(const std::string& title, const std::vector<std::pair<std::string, double>>& values,
                 int digits);

// Names beside pieces of line in their styles. titles: what they say when pointed at, if more.
std::string legend(const std::vector<std::string>& names, const std::vector<std::string>& titles = {});

}  // namespace curdkv::report
