#include <algorithm>

#include "base/format.h"
#include "report/html.h"
#include "report/sections.h"

namespace curdkv::report {

using namespace curdkv::eval;

namespace {

// A row of numbers, the largest of them in bold as printed; the first is the full cache's and does not
// compete.
std::string row(const std::string& name, const std::vector<double>& values,
                const std::vector<std::string>& notes) {
  std::string out = "<tr><th scope=row>" + name + "</th>";
  double best = -1;
  for (size_t i = 1; i < values.size(); ++i) best = std::max(best, values[i]);
  for (size_t i = 0; i < values.size(); ++i) {
    const std::string text = number(values[i], 1);
    const bool bold = i > 0 && best > 0 && text == number(best, 1);
    out += "<td>" + (bold ? "<b>" + text + "</b>" : text);
    if (!notes.empty()) out += "<small>" + notes[i] + "</small>";
    out += "</td>";
  }
  return out + "</tr>\n";
}

// A row of texts that do not compete.
std::string plain_row(const std::string& name, const std::vector<std::string>& texts) {
  std::string out = "<tr><th scope=row>" + name + "</th>";
  for (const std::string& text : texts) out += "<td>" + text + "</td>";
  return out + "</tr>\n";
}

std::string head(const std::vector<std::string>& presses) {
  std::string out = "<thead><tr><th scope=col>task</th><th scope=col>full cache</th>";
  for (const std::string& press : presses) out += "<th scope=col>" + breakable(press) + "</th>";
  return out + "</tr></thead>\n";
}

std::string table_at(const Summary& s, double ratio) {
  const std::vector<std::string> presses = s.presses_at(ratio);
  std::vector<Method> methods = {kFullCache};
  for (const std::string& press : presses) methods.push_back({press, ratio});
  std::string out =
      "<h4>" + removed_heading(s, ratio) + "</h4>\n<div class=wide><table>" + head(presses) + "<tbody>";
  for (const TaskInfo* task : s.tasks()) {
    std::vector<double> values;
    for (const Method& m : methods) values.push_back(s.score(m, *task).mean);
    out += row("<abbr title=\"" + std::string(task->name) + format(", %zu samples\">", s.n_samples(*task)) +
                   std::string(task->paper_name) + "</abbr>",
               values, {});
  }
  std::vector<double> averages, fidelity, answers;
  std::vector<std::string> intervals, bytes;
  for (const Method& m : methods) {
    const Interval i = s.average(m);
    averages.push_back(i.mean);
    intervals.push_back(format(" %.0f–%.0f", i.low, i.high));
    fidelity.push_back(s.fidelity(m));
    answers.push_back(s.output_fidelity(m));
    bytes.push_back(number(100 * s.mean_share_of_bytes(m), 1) + "<small>" +
                    number(s.mean_kv_bytes(m) / (1 << 20), 2) + " MiB</small>");
  }
  out += "</tbody><tbody class=sum>" + row("Average", averages, intervals) +
         row("Fidelity, scores", fidelity, {}) + row("Fidelity, answers", answers, {}) +
         plain_row("Bytes kept, %", bytes);
  return out + "</tbody></table></div>\n";
}

}  // namespace

std::string score_tables(const Summary& s) {
  std::string out;
  for (const double ratio : s.ratios()) out += table_at(s, ratio);
  return out +
         "<p class=note>Scores in percent; bold: the best of a row. Small: 95 % bootstrap interval over "
         "samples. "
         "Fidelity of scores: mean over tasks of the score relative to the full cache's. Fidelity of "
         "answers: word F1 "
         "against the full cache's answers. Bytes kept: of the full cache's, mean over samples.</p>\n";
}

std::string cost_table(const Summary& s) {
  const bool timed = s.mean_timings(kFullCache).has_value();
  const auto spanning = [&](const char* what) {
    return format("<th scope=colgroup colspan=%zu>%s</th>", s.ratios().size(), what);
  };
  std::string ratios;
  for (const double ratio : s.ratios()) ratios += format("<th scope=col>%.0f %%</th>", 100 * ratio);
  std::string out =
      "<div class=wide><table><thead><tr><th></th>" + spanning("KV cache in MiB, by share removed") +
      (timed ? "<th colspan=2>prefill</th>" : "") + "</tr>\n<tr><th scope=col>press</th>" + ratios +
      (timed ? "<th scope=col>s</th><th scope=col>compression</th>" : "") + "</tr></thead><tbody>\n";
  const auto add = [&](const std::string& name, const std::vector<Method>& methods) {
    std::string memory;
    double prefill = 0, compress = 0;
    for (const Method& m : methods) {
      const bool there = s.has(m);
      memory += "<td>";
      if (there) {
        memory += number(s.mean_kv_bytes(m) / (1 << 20), 2) + "<small>" +
                  number(100 * s.mean_share_of_bytes(m), 1) + " %</small>";
      }
      memory += "</td>";
      const auto t = there && timed ? s.mean_timings(m) : std::nullopt;
      if (t) prefill += t->prefill_ms, compress += t->compress_ms;
    }
    out += "<tr><th scope=row>" + name + "</th>" + memory;
    if (timed) {
      out += "<td>" + number(prefill / 1e3 / static_cast<double>(methods.size()), 2) + "</td><td>" +
             number(100 * compress / prefill, 2) + " %</td>";
    }
    out += "</tr>\n";
  };
  add("full cache", std::vector<Method>(s.ratios().size(), kFullCache));
  for (const std::string& press : s.presses()) {
    std::vector<Method> methods;
    for (const double ratio : s.ratios()) methods.push_back({press, ratio});
    add(breakable(press), methods);
  }
  return out + "</tbody></table></div>\n<p class=note>Means over samples; small: of the full cache. " +
         (timed ? "Prefill: as if the press had been alone. Times as they were while the evaluation ran, "
                  "with whatever "
                  "ran beside it."
                : "") +
         "</p>\n";
}

}  // namespace curdkv::report
