// The parts of a report, each a piece of HTML.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "eval/summary.h"
#include "io/jsonl.h"

namespace curdkv::report {

// Average score against the share of the full cache's bytes that is kept, a line per press.
std::string answers_against_bytes(const eval::Summary& summary);
// "10.1 % of the bytes, 2.2 MiB": what a method keeps.
std::string bytes_text(const eval::Summary& summary, const eval::Method& method);
// "90 % removed, 9.97 to 10.1 % of the bytes kept": what presses at a ratio have in common.
std::string removed_heading(const eval::Summary& summary, double ratio);
// Tasks as rows, presses as columns, the best in bold; one table per ratio.
std::string score_tables(const eval::Summary& summary);
// Average score against ratio with its interval, a panel per press, the others behind it.
std::string score_curves(const eval::Summary& summary);
// Friedman's test and Nemenyi's comparison: mean ranks on a line, groups that do not differ joined.
std::string rank_diagrams(const eval::Summary& summary);
// Fidelity, memory and, where times were recorded, speed.
std::string cost_table(const eval::Summary& summary);
// A document with each token shaded by how many heads kept it. The argument is what 'curdkv analyze --figure
// document' writes; errors: corrupt naming the field.
Result<std::string> document_view(const JsonLine& figure);

// Figures of 'curdkv analyze'; what they say of their fields is in src/analysis. Errors as of
// document_view().
Result<std::string> attention_vs_loss_section(const JsonLine& figure);
Result<std::string> reconstruction_section(const JsonLine& figure);
Result<std::string> heads_section(const JsonLine& figure);
// What CurDKV's scores are made of, if the predictions are those of 'curdkv eval --press ablation' or of
// enough of it; else "".
std::string ablation(const eval::Summary& summary);

// One test of one engine and press at one depth, as 'curdkv bench' writes it.
struct SpeedRow {
  std::string name;   // engine or press, and ratio
  std::string press;  // empty for the full cache and other engines
  double compression_ratio = 0;
  std::string test;
  double depth = 0, n_tokens = 0, median_ts = 0, stddev_ts = 0, kv_bytes = 0;
  std::optional<double> rss_peak_bytes;
  std::optional<double> ratio;  // to llama.cpp
  std::optional<double> share;  // of the machine's limit
};
struct SpeedRun {
  Json settings;  // model, threads, cache types, version
  std::vector<SpeedRow> rows;
  std::vector<std::string> names() const;  // in the order in which they first come
};
// Errors: corrupt naming the field.
Result<SpeedRow> speed_row(const JsonLine& line);
// Tables against depth, and how time and memory grow with it.
std::string speed_section(const SpeedRun& run);

}  // namespace curdkv::report
