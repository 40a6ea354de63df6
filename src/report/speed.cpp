// What 'curdkv bench' measured: tables against depth, and growth with fitted exponents.
#include <algorithm>
#include <cmath>
#include <set>

#include "base/format.h"
#include "base/try.h"
#include "report/html.h"
#include "report/sections.h"

namespace curdkv::report {

namespace {

constexpr double kWidth = 360, kHeight = 250, kLeft = 46, kRight = 12, kTop = 24, kBottom = 34;

// Something measured that grows with the context; unit in the title.
struct Measure {
  const char* test;
  const char* title;
  std::optional<double> (*of)(const SpeedRow&);
};

const Measure kMeasures[] = {
    {"prefill", "prefill, s", [](const SpeedRow& r) { return std::optional(r.n_tokens / r.median_ts); }},
    {"compress", "compression, s", [](const SpeedRow& r) { return std::optional(r.n_tokens / r.median_ts); }},
    {"decode", "decoding, ms a token", [](const SpeedRow& r) { return std::optional(1e3 / r.median_ts); }},
    {"decode", "KV cache, MiB", [](const SpeedRow& r) { return std::optional(r.kv_bytes / (1 << 20)); }},
    {"prefill", "most memory while reading, MiB",
     [](const SpeedRow& r) {
       return r.rss_peak_bytes ? std::optional(*r.rss_peak_bytes / (1 << 20)) : std::nullopt;
     }},
};

struct Curve {
  std::string name;
  std::vector<std::pair<double, double>> points;  // depth, value; ascending
};

// The slope of the line through the logarithms, by least squares; nothing for fewer than three points.
std::optional<double> exponent(const Curve& c) {
  const auto n = static_cast<double>(c.points.size());
  if (n < 3) return std::nullopt;
  double x = 0, y = 0, xx = 0, xy = 0;
  for (const auto& [depth, value] : c.points) {
    const double a = std::log(depth), b = std::log(value);
    x += a, y += b, xx += a * a, xy += a * b;
  }
  return (n * xy - x * y) / (n * xx - x * x);
}

std::vector<Curve> curves_of(const SpeedRun& run, const Measure& m) {
  std::vector<Curve> out;
  for (const std::string& name : run.names()) {
    Curve c = {name, {}};
    for (const SpeedRow& r : run.rows) {
      if (r.name != name || r.test != m.test || r.depth <= 0) continue;
      const auto value = m.of(r);
      if (value && *value > 0) c.points.emplace_back(r.depth, *value);
    }
    std::sort(c.points.begin(), c.points.end());
    if (!c.points.empty()) out.push_back(std::move(c));
  }
  return out;
}

std::string tick(double value) {
  return value >= 1024 && std::fmod(value, 1024) == 0 ? format("%.0fK", value / 1024) : format("%g", value);
}

std::string plot(const char* title, const std::vector<Curve>& curves) {
  double x0 = 1e30, x1 = 0, y0 = 1e30, y1 = 0;
  for (const Curve& c : curves) {
    for (const auto& [x, y] : c.points)
      x0 = std::min(x0, x), x1 = std::max(x1, x), y0 = std::min(y0, y), y1 = std::max(y1, y);
  }
  y0 = std::pow(10, std::floor(std::log10(y0)));
  y1 = std::pow(10, std::ceil(std::log10(y1 * 1.0001)));
  if (x0 == x1) x1 = 2 * x0;
  const auto x_of = [&](double x) {
    return kLeft + std::log(x / x0) / std::log(x1 / x0) * (kWidth - kLeft - kRight);
  };
  const auto y_of = [&](double y) {
    return kHeight - kBottom - std::log(y / y0) / std::log(y1 / y0) * (kHeight - kTop - kBottom);
  };
  std::string out = format("<svg viewBox=\"0 0 %.0f %.0f\" role=img aria-label=\"%s against the context\">",
                           kWidth, kHeight, title) +
                    format("<text class=title x=%.0f y=14>%s</text>", kLeft, title);
  for (double y = y0; y <= y1 * 1.001; y *= 10) {
    out += format("<line class=grid x1=%.0f x2=%.0f y1=%.1f y2=%.1f />", kLeft, kWidth - kRight, y_of(y),
                  y_of(y)) +
           format("<text x=%.0f y=%.1f text-anchor=end>%g</text>", kLeft - 5, y_of(y) + 3.5, y);
  }
  std::set<double> depths;
  for (const Curve& c : curves) {
    for (const auto& [x, y] : c.points) depths.insert(x);
  }
  for (const double x : depths) {
    out += format("<text x=%.1f y=%.0f text-anchor=middle>%s</text>", x_of(x), kHeight - kBottom + 14,
                  tick(x).c_str());
  }
  out += format("<text class=label x=%.1f y=%.0f text-anchor=middle>tokens of context</text>",
                (kLeft + kWidth - kRight) / 2, kHeight - 4);
  for (size_t i = 0; i < curves.size(); ++i) {
    const std::string line = format("class=\"line c%zu\"", i % kLineColours);
    std::string points;
    for (const auto& [x, y] : curves[i].points) points += format("%.1f,%.1f ", x_of(x), y_of(y));
    out += "<polyline " + line + " points=\"" + points + "\"/>";
    for (const auto& [x, y] : curves[i].points) {
      out += "<circle " + line + format(" cx=%.1f cy=%.1f r=2.6><title>", x_of(x), y_of(y)) +
             escaped(curves[i].name) + format(": %s tokens, %.3g</title></circle>", tick(x).c_str(), y);
    }
  }
  return out + "</svg>\n";
}

std::string growth(const SpeedRun& run) {
  std::string plots, fits;
  const std::vector<std::string> names = run.names();
  for (const std::string& name : names) fits += "<th scope=col>" + breakable(name) + "</th>";
  fits = "<div class=wide><table><thead><tr><th scope=col>grows as depth to the power of</th>" + fits +
         "</tr></thead><tbody>";
  std::string legend;
  for (size_t i = 0; i < names.size(); ++i) {
    legend += format(
                  "<span><svg class=key viewBox=\"0 0 20 8\"><polyline class=\"line c%zu\" points=\"0,4 "
                  "20,4\"/></svg> ",
                  i % kLineColours) +
              escaped(names[i]) + "</span>\n";
  }
  for (const Measure& m : kMeasures) {
    std::vector<Curve> curves = curves_of(run, m);
    // A curve has the colour of its name, also where others are missing.
    std::vector<Curve> all;
    for (const std::string& name : names) {
      const auto it =
          std::find_if(curves.begin(), curves.end(), [&](const Curve& c) { return c.name == name; });
      all.push_back(it == curves.end() ? Curve{name, {}} : *it);
    }
    const bool several =
        std::any_of(all.begin(), all.end(), [](const Curve& c) { return c.points.size() > 1; });
    if (!several) continue;
    plots += plot(m.title, all);
    fits += std::string("<tr><th scope=row>") + m.title + "</th>";
    for (const Curve& c : all) {
      const auto e = exponent(c);
      fits += "<td>" + (e ? number(*e, 2) : "") + "</td>";
    }
    fits += "</tr>\n";
  }
  if (plots.empty()) return "";
  return "<h3>Growth</h3>\n<div class=legend>" + legend + "</div>\n<div class=\"panels large\">\n" + plots +
         "</div>\n" + fits +
         "</tbody></table></div>\n<p class=note>Both axes are logarithmic. Powers: least squares through the "
         "logarithms of all depths shown.</p>\n";
}

std::string table(const SpeedRun& run, const std::string& test) {
  std::set<double> depths;
  for (const SpeedRow& r : run.rows) {
    if (r.test == test) depths.insert(r.depth);
  }
  if (depths.empty()) return "";
  std::string out = "<h4>" + escaped(test) +
                    ", tokens a second</h4>\n<div class=wide><table><thead><tr><th scope=col>depth</th>";
  for (const std::string& name : run.names()) out += "<th scope=col>" + breakable(name) + "</th>";
  out += "</tr></thead><tbody>";
  for (const double depth : depths) {
    out += "<tr><th scope=row>" + format("%.0f", depth) + "</th>";
    for (const std::string& name : run.names()) {
      const auto it = std::find_if(run.rows.begin(), run.rows.end(), [&](const SpeedRow& r) {
        return r.test == test && r.depth == depth && r.name == name;
      });
      out += "<td>";
      if (it != run.rows.end()) {
        out += number(it->median_ts, it->median_ts < 100 ? 2 : 0) + format("<small>± %.2g", it->stddev_ts);
        if (it->ratio) out += format(", %.2f ×", *it->ratio);
        if (it->share) out += format(", %.0f %%", 100 * *it->share);
        out += "</small>";
      }
      out += "</td>";
    }
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

}  // namespace

std::vector<std::string> SpeedRun::names() const {
  std::vector<std::string> out;
  for (const SpeedRow& r : rows) {
    if (std::find(out.begin(), out.end(), r.name) == out.end()) out.push_back(r.name);
  }
  return out;
}

Result<SpeedRow> speed_row(const eval::JsonLine& line) {
  SpeedRow row;
  CURDKV_TRY(const std::string engine, line.text("engine"));
  CURDKV_TRY(row.test, line.text("test"));
  CURDKV_TRY(const std::string press, line.text("press"));
  CURDKV_TRY(const double ratio, line.number("compression_ratio"));
  CURDKV_TRY(row.depth, line.number("depth"));
  CURDKV_TRY(row.n_tokens, line.number("n_tokens"));
  CURDKV_TRY(row.median_ts, line.number("median_ts"));
  CURDKV_TRY(row.stddev_ts, line.number("stddev_ts"));
  CURDKV_TRY(row.kv_bytes, line.number("kv_bytes"));
  if (!(row.median_ts > 0)) return line.error("field 'median_ts' is not positive");
  row.name = engine != "curdkv" ? engine
             : press == "none"  ? "curdkv, full cache"
                                : press + format(" %.2f", ratio);
  if (line.has("rss_peak_bytes")) {
    CURDKV_TRY(row.rss_peak_bytes, line.number("rss_peak_bytes"));
  }
  if (line.has("ratio_to_llama_cpp") && engine != "llama.cpp") {
    CURDKV_TRY(row.ratio, line.number("ratio_to_llama_cpp"));
  }
  if (line.has("limit")) {
    CURDKV_TRY(const double reached, line.number(line.has("gflops") ? "gflops" : "gbytes_per_s"));
    CURDKV_TRY(const double limit, line.number("limit"));
    row.share = reached / limit;
  }
  return row;
}

std::string speed_section(const SpeedRun& run) {
  std::string out = growth(run) + "<h3>Speed</h3>\n";
  for (const char* test : {"prefill", "compress", "extend", "decode"}) out += table(run, test);
  const bool ratios =
      std::any_of(run.rows.begin(), run.rows.end(), [](const SpeedRow& r) { return r.ratio.has_value(); });
  return out + "<p class=note>Medians; small: standard deviation" +
         (ratios ? ", ratio to llama.cpp in the same repetition" : "") +
         ", share of what the machine does at most (GB/s when decoding, F32 FLOP/s otherwise).</p>\n";
}

}  // namespace curdkv::report
