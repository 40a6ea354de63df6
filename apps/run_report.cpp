#include "run_report.h"

#include <algorithm>

#include "base/format.h"
#include "terminal.h"

namespace curdkv::app {
namespace {

// Why an answer is as long as it is.
const char* stopped_by(const Generation& g) {
  return g.ended ? "end" : g.context_full ? "context" : "n_predict";
}

}  // namespace

double decode_ms(std::span<const Answer> answers) {
  double sum = 0, n = 0;
  for (const Answer& a : answers) {
    const double weight = static_cast<double>(a.generation.tokens.size());
    sum += a.generation.decode_ms_per_token * weight;
    n += weight;
  }
  return n > 0 ? sum / n : 0;
}

std::string reading_as_text(const Reading& r) {
  return format(
      "%s: %lld tokens read in %.1f s (%.0f t/s, compression %.1f %%); KV cache %s of %s, peak %s\n",
      r.label.c_str(), (long long)r.prefill.n_tokens, r.prefill.prefill_ms / 1e3,
      static_cast<double>(r.prefill.n_tokens) * 1e3 / r.prefill.prefill_ms,
      100 * r.prefill.compress_ms / r.prefill.prefill_ms, human_bytes(r.prefill.kv_bytes).c_str(),
      human_bytes(r.prefill.kv_bytes_full).c_str(), human_bytes(r.kv_bytes_peak).c_str());
}

std::string side_by_side(const std::vector<std::string>& questions, const Reading& full, const Reading& r) {
  const int width = static_cast<int>(std::max(full.label.size(), r.label.size()));
  std::string out;
  for (size_t i = 0; i < questions.size(); ++i) {
    out += "> " + questions[i] + "\n";
    for (const Reading* side : {&full, &r}) {
      std::string label = side->label;
      label.resize(static_cast<size_t>(width), ' ');
      out += label + "  " + side->answers[i].generation.text + "\n";
    }
    out += "\n";
  }
  out += format("%-*s  %12s  %12s  %12s  %14s\n", width, "", "KV cache", "peak", "prefill", "decode");
  for (const Reading* side : {&full, &r}) {
    out += format("%-*s  %12s  %12s  %8.0f t/s  %10.1f t/s\n", width, side->label.c_str(),
                  human_bytes(side->prefill.kv_bytes).c_str(), human_bytes(side->kv_bytes_peak).c_str(),
                  static_cast<double>(side->prefill.n_tokens) * 1e3 / side->prefill.prefill_ms,
                  decode_ms(side->answers) > 0 ? 1e3 / decode_ms(side->answers) : 0.0);
  }
  return out;
}

nlohmann::ordered_json answer_json(const Answer& a) {
  return {{"answer", a.generation.text},         {"n_tokens", a.generation.tokens.size()},
          {"ended", a.generation.ended},         {"stopped_by", stopped_by(a.generation)},
          {"question_ms", a.question_ms},        {"decode_ms_per_token", a.generation.decode_ms_per_token},
          {"n_drafted", a.generation.n_drafted}, {"n_accepted", a.generation.n_accepted}};
}

nlohmann::ordered_json answers_json(const std::vector<std::string>& questions,
                                    std::span<const Answer> answers) {
  auto all = nlohmann::ordered_json::array();
  for (size_t i = 0; i < answers.size(); ++i) {
    nlohmann::ordered_json a = {{"question", questions[i]}};
    a.update(answer_json(answers[i]));
    all.push_back(a);
  }
  return all;
}

std::string decoding_as_text(std::span<const Answer> answers) {
  const double ms = decode_ms(answers);
  return ms > 0 ? format("decode %.1f ms per token (%.1f t/s)\n", ms, 1e3 / ms) : "";
}

}  // namespace curdkv::app
