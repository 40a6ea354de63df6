#include "eval/task.h"

#include <algorithm>

namespace curdkv::eval {
namespace {

using enum Benchmark;
using enum Metric;

// Lengths and metrics: RULER's synthetic.yaml and LongBench's dataset2maxlen.json and dataset2metric.
constexpr TaskInfo kTasks[] = {
    {"niah_single_1", "S-1", ruler, string_match_all, 128, false},
    {"niah_single_2", "S-2", ruler, string_match_all, 128, false},
    {"niah_single_3", "S-3", ruler, string_match_all, 128, false},
    {"niah_multikey_1", "MK-1", ruler, string_match_all, 128, false},
    {"niah_multikey_2", "MK-2", ruler, string_match_all, 128, false},
    {"niah_multikey_3", "MK-3", ruler, string_match_all, 128, false},
    {"niah_multiquery", "MQ", ruler, string_match_all, 128, false},
    {"niah_multivalue", "MV", ruler, string_match_all, 128, false},
    {"vt", "VT", ruler, string_match_all, 30, false},
    {"cwe", "CWE", ruler, string_match_all, 120, false},
    {"fwe", "FWE", ruler, string_match_all, 50, false},
    {"qa_1", "QA-1", ruler, string_match_any, 32, false},
    {"qa_2", "QA-2", ruler, string_match_any, 32, false},
    {"narrativeqa", "NrtvQA", longbench, qa_f1, 128, false},
    {"qasper", "Qasper", longbench, qa_f1, 128, false},
    {"multifieldqa_en", "MF-en", longbench, qa_f1, 64, false},
    {"hotpotqa", "HotpotQA", longbench, qa_f1, 32, false},
    {"2wikimqa", "2WikiMQA", longbench, qa_f1, 32, false},
    {"musique", "Musique", longbench, qa_f1, 32, false},
    {"gov_report", "Gov Report", longbench, rouge_l, 512, false},
    {"qmsum", "QMSum", longbench, rouge_l, 512, false},
    {"multi_news", "Multi News", longbench, rouge_l, 512, false},
    {"trec", "TREC", longbench, classification, 64, true},
    {"triviaqa", "TriviaQA", longbench, qa_f1, 32, true},
    {"samsum", "SAMSum", longbench, rouge_l, 128, true},
    {"passage_count", "Pcount", longbench, count, 32, false},
    {"passage_retrieval_en", "Pre", longbench, retrieval, 32, false},
    {"lcc", "Lcc", longbench, code_similarity, 64, false},
    {"repobench-p", "RB-P", longbench, code_similarity, 64, false},
};

}  // namespace

std::span<const TaskInfo> list_tasks() {
  return kTasks;
}

const TaskInfo* find_task(std::string_view name) {
  const auto* it =
      std::find_if(std::begin(kTasks), std::end(kTasks), [&](const TaskInfo& t) { return t.name == name; });
  return it == std::end(kTasks) ? nullptr : it;
}

std::string_view to_string(Benchmark benchmark) {
  return benchmark == ruler ? "RULER" : "LongBench";
}

}  // namespace curdkv::eval
