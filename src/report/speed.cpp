// What 'curdkv bench' measured: tables against depth, and growth with fitted exponents.
#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "base/format.h"
#include "base/try.h"
#include "report/html.h"
#include "report/plot.h"
#include "report/sections.h"

namespace curdkv::report {

namespace {

constexpr const char* kFullCacheName = "curdkv, full cache";

// Something measured that grows with the context; unit in the title.
struct Measure {
  const char* test;
  const char* title;
  std::optional<double> (*of)(const SpeedRow&);
};

std::optional<double> resident(const SpeedRow& r) {
  return r.rss_peak_bytes ? std::optional(*r.rss_peak_bytes / (1 << 20)) : std::nullopt;
}

const Measure kMeasures[] = {
    {"prefill", "prefill, s", [](const SpeedRow& r) { return std::optional(r.n_tokens / r.median_ts); }},
    {"compress", "compression, s", [](const SpeedRow& r) { return std::optional(r.n_tokens / r.median_ts); }},
    {"decode", "decoding, ms a token", [](const SpeedRow& r) { return std::optional(1e3 / r.median_ts); }},
    {"decode", "KV cache, MiB", [](const SpeedRow& r) { return std::optional(r.kv_bytes / (1 << 20)); }},
    {"prefill", "most memory while reading, MiB", resident},
    {"decode", "memory while decoding, MiB", resident},
};

struct Curve {
  std::string name;
  Plot::Points points;  // depth, value; ascending
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
      if (value && *value > 0 && std::isfinite(*value)) c.points.emplace_back(r.depth, *value);
    }
    std::sort(c.points.begin(), c.points.end());
    if (!c.points.empty()) out.push_back(std::move(c));
  }
  return out;
}

std::string growth_plot(const char* title, const std::vector<Curve>& curves) {
  std::set<double> depths;
  double low = std::numeric_limits<double>::infinity(), high = 0;
  for (const Curve& c : curves) {
    for (const auto& [x, y] : c.points) depths.insert(x), low = std::min(low, y), high = std::max(high, y);
  }
  Plot plot(title, "tokens of context", Scale::logarithmic_at({depths.begin(), depths.end()}),
            Scale::decades(low, high));
  for (size_t i = 0; i < curves.size(); ++i) plot.line(curves[i].name, curves[i].points, i);
  return plot.svg();
}

std::string growth(const SpeedRun& run) {
  std::string plots, fits;
  const std::vector<std::string> names = run.names();
  const bool drawn = names.size() <= kLineColours;  // no two lines alike
  bool any = false;
  for (const std::string& name : names) fits += "<th scope=col>" + breakable(name) + "</th>";
  fits = "<div class=wide><table><thead><tr><th scope=col>grows as depth to the power of</th>" + fits +
         "</tr></thead><tbody>";
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
    if (drawn) plots += growth_plot(m.title, all);
    any = true;
    fits += std::string("<tr><th scope=row>") + m.title + "</th>";
    for (const Curve& c : all) {
      const auto e = exponent(c);
      fits += "<td>" + (e ? number(*e, 2) : "") + "</td>";
    }
    fits += "</tr>\n";
  }
  if (!any) return "";
  if (drawn) plots = legend(names) + "<div class=\"panels large\">\n" + plots + "</div>\n";
  return "<h3>Growth</h3>\n" + plots + fits + "</tbody></table></div>\n<p class=note>" +
         (drawn ? "Both axes are logarithmic. " : "") +
         "Powers: least squares through the logarithms of all depths.</p>\n";
}

// What the paper's figures 4 and 5 show: measures of one press against the ratio, a line for each depth.
// The full cache, where it was measured, is ratio 0.
std::string against_ratio(const SpeedRun& run, const std::string& press) {
  std::set<double> depths, ratios;
  for (const SpeedRow& r : run.rows) {
    if (r.press == press) depths.insert(r.depth), ratios.insert(r.compression_ratio);
  }
  if (ratios.size() < 3) return "";
  std::string panels;
  std::vector<std::string> names;
  for (const double depth : depths) names.push_back(format("%.0f tokens", depth));
  for (const Measure& m : kMeasures) {
    std::vector<Plot::Points> lines;
    double most = 0;
    for (const double depth : depths) {
      Plot::Points points;
      for (const SpeedRow& r : run.rows) {
        const auto value = m.of(r);
        const bool ours = r.press == press || r.name == kFullCacheName;
        if (!ours || r.test != m.test || r.depth != depth || !value || !std::isfinite(*value)) continue;
        points.emplace_back(r.compression_ratio, *value);
        most = std::max(most, *value);
      }
      std::sort(points.begin(), points.end());
      lines.push_back(std::move(points));
    }
    if (most <= 0) continue;
    Plot plot(m.title, "fraction removed", Scale::linear(0, std::max(0.9, *ratios.rbegin())),
              Scale::linear(0, most));
    for (size_t i = 0; i < lines.size(); ++i) plot.line(names[i], lines[i], i);
    panels += plot.svg();
  }
  return "<h4>" + escaped(press) + "</h4>\n" + legend(names) + "<div class=\"panels large\">\n" + panels +
         "</div>\n";
}

std::string runtime(const SpeedRun& run) {
  std::string out;
  std::set<std::string> done;
  for (const SpeedRow& r : run.rows) {
    if (!r.press.empty() && done.insert(r.press).second) out += against_ratio(run, r.press);
  }
  return out.empty() ? "" : "<h3>Memory and time against the ratio</h3>\n" + out;
}

std::string speed_cell(const SpeedRow& r) {
  std::string small;
  const auto add = [&](const std::string& part) { small += (small.empty() ? "" : ", ") + part; };
  if (r.stddev_ts > 0) add(format("± %.2g", r.stddev_ts));  // of one repetition there is none
  if (r.ratio) add(format("%.2f ×", *r.ratio));
  if (r.share) add(format("%.0f %%", 100 * *r.share));
  return number(r.median_ts, r.median_ts < 100 ? 2 : 0) + "<small>" + small + "</small>";
}

std::string cache_cell(const SpeedRow& r) {
  return number(r.kv_bytes / (1 << 20), 2);
}

// By depth and name, what `cell` says of a test's rows.
std::string table(const SpeedRun& run, const std::string& test, const std::string& title,
                  std::string (*cell)(const SpeedRow&)) {
  std::set<double> depths;
  for (const SpeedRow& r : run.rows) {
    if (r.test == test) depths.insert(r.depth);
  }
  if (depths.empty()) return "";
  std::string out = "<h4>" + title + "</h4>\n<div class=wide><table><thead><tr><th scope=col>depth</th>";
  for (const std::string& name : run.names()) out += "<th scope=col>" + breakable(name) + "</th>";
  out += "</tr></thead><tbody>";
  for (const double depth : depths) {
    out += "<tr><th scope=row>" + format("%.0f", depth) + "</th>";
    for (const std::string& name : run.names()) {
      const auto it = std::find_if(run.rows.begin(), run.rows.end(), [&](const SpeedRow& r) {
        return r.test == test && r.depth == depth && r.name == name;
      });
      out += "<td>" + (it == run.rows.end() ? "" : cell(*it)) + "</td>";
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

Result<SpeedRow> speed_row(const JsonLine& line) {
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
  if (engine == "curdkv" && press != "none") {
    row.press = press;
    row.compression_ratio = ratio;
  }
  row.name = engine != "curdkv" ? engine : press == "none" ? kFullCacheName : press + format(" %.2f", ratio);
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
  std::string out = growth(run) + runtime(run) + "<h3>Speed</h3>\n";
  for (const char* test : {"prefill", "compress", "extend", "decode"})
    out += table(run, test, std::string(test) + ", tokens a second", speed_cell);
  const bool ratios =
      std::any_of(run.rows.begin(), run.rows.end(), [](const SpeedRow& r) { return r.ratio.has_value(); });
  return out + "<p class=note>Medians; small: standard deviation" +
         (ratios ? ", ratio to llama.cpp in the same repetition" : "") +
         ", share of what the machine does at most (GB/s when decoding, F32 FLOP/s otherwise).</p>\n" +
         table(run, "decode", "KV cache, MiB", cache_cell);
}

}  // namespace curdkv::report
