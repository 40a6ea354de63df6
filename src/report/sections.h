// The parts of a report, each a piece of HTML.
#pragma once

#include <string>
#include <vector>

#include "eval/jsonl.h"
#include "eval/summary.h"

namespace curdkv::report {

// Tasks as rows, presses as columns, the best in bold; one table per ratio.
std::string score_tables(const eval::Summary& summary);
// Average score against ratio with its interval, a panel per press, the others behind it.
std::string score_curves(const eval::Summary& summary);
// Friedman's test and Nemenyi's comparison: mean ranks on a line, groups that do not differ joined.
std::string rank_diagrams(const eval::Summary& summary);
// Fidelity, memory and, where times were recorded, speed.
std::string cost_table(const eval::Summary& summary);
// A document with each token shaded by how many heads kept it. The argument is what 'curdkv analyze --figure
// document' writes; errors: bad_input naming the field.
Result<std::string> document_view(const eval::JsonLine& figure, int number);

}  // namespace curdkv::report
