#include "context_report.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/format.h"
#include "printable.h"
#include "terminal.h"

namespace curdkv::app {
namespace {

std::string heat(double share) {
  static constexpr const char* kLevels[] = {"·", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  return kLevels[std::clamp(static_cast<int>(std::ceil(share * 8)), 0, 8)];
}

double mean_share(const std::vector<int64_t>& rows, int64_t n_tokens) {
  return static_cast<double>(std::accumulate(rows.begin(), rows.end(), int64_t{0})) /
         static_cast<double>(std::ssize(rows) * n_tokens);
}

// "q4", or of several types "q3 70.0 %, q4 30.0 %".
std::string shares(const std::map<std::string, int64_t>& rows) {
  int64_t all = 0;
  for (const auto& [type, n] : rows) all += n;
  std::string out;
  for (const auto& [type, n] : rows) {
    out += (out.empty() ? "" : ", ") + type;
    if (rows.size() > 1) out += format(" %.1f %%", 100 * static_cast<double>(n) / static_cast<double>(all));
  }
  return out;
}

std::string bytes(int64_t n) {
  return human_bytes(static_cast<size_t>(n));
}

}  // namespace

std::string context_label(const ContextInfo& c) {
  if (c.budget) return c.press + format(" budget %lld", (long long)*c.budget);
  if (c.budget_bytes) return c.press + format(" budget %lld bytes", (long long)*c.budget_bytes);
  return c.press == "none" ? "none (full cache)" : c.press + format(" %.2f", c.compression_ratio);
}

std::string restored_as_text(const ContextInfo& c, double ms) {
  return format("%s: restored %lld tokens in %.1f ms; KV cache %s of %s\n", c.path.c_str(),
                (long long)c.n_tokens, ms, human_bytes(static_cast<size_t>(c.kv_bytes)).c_str(),
                human_bytes(static_cast<size_t>(c.kv_bytes_full)).c_str());
}

std::string context_as_text(const ContextInfo& c) {
  const auto shown = [](const std::string& text) {
    return isatty(STDOUT_FILENO) != 0 ? printable_line(text) : text;
  };
  std::string out = "context       " + shown(c.path) +
                    format(" (format %lld, curdkv ", (long long)c.format_version) + shown(c.program) + ")\n";
  for (const ContextDocument& d : c.documents)
    out += "document      " + shown(d.name) + ", " + bytes(d.n_bytes) + ", sha256 " + shown(d.sha256) + "\n";
  out += "model         " + shown(c.model_name) + " (" + shown(c.architecture) + ", " +
         shown(c.quantization) + ")\n";
  out += std::string("prompt        ") + (c.chat ? "chat template" : "raw") + "\n";
  out += "press         " + shown(context_label(c)) +
         format(", seed %llu\n", static_cast<unsigned long long>(c.seed));
  double kept = 0;
  for (const auto& layer : c.rows) kept += mean_share(layer, c.n_tokens);
  out += format("tokens        %lld, of which a KV head keeps %.1f %% on average\n", (long long)c.n_tokens,
                100 * kept / static_cast<double>(c.rows.size()));
  out += "rows          keys " + shares(c.rows_k) + "; values " + shares(c.rows_v) + "\n";
  out += "cache         " + bytes(c.kv_bytes) + " of " + bytes(c.kv_bytes_full) + "; the file " +
         bytes(c.file_bytes) + "\n";
  for (size_t il = 0; il < c.rows.size(); ++il) {
    const auto [least, most] = std::minmax_element(c.rows[il].begin(), c.rows[il].end());
    out += format("layer %-3zu     ", il);
    for (const int64_t n : c.rows[il]) out += heat(static_cast<double>(n) / static_cast<double>(c.n_tokens));
    out += format("  %5.1f %%  %lld to %lld rows\n", 100 * mean_share(c.rows[il], c.n_tokens),
                  (long long)*least, (long long)*most);
  }
  return out;
}

nlohmann::ordered_json context_json(const ContextInfo& c) {
  nlohmann::ordered_json j = {
      {"context", c.path},
      {"format_version", c.format_version},
      {"program", c.program},
      {"context_model",
       {{"name", c.model_name}, {"architecture", c.architecture}, {"quantization", c.quantization}}},
      {"chat", c.chat},
      {"cache_type_k", name_of(c.type_k)},
      {"cache_type_v", name_of(c.type_v)},
      {"documents", nlohmann::ordered_json::array()},
      {"press", c.press.substr(0, c.press.find(':'))},
      {"press_spec", c.press},
      {"press_params", c.press_settings},
      {"compression_ratio", c.compression_ratio},
      {"budget", nullptr},
      {"press_seed", c.seed},
      {"n_context_tokens", c.n_tokens},
      {"n_kept", c.rows},
      {"rows_k", c.rows_k},
      {"rows_v", c.rows_v},
      {"kv_bytes_full", c.kv_bytes_full},
      {"kv_bytes", c.kv_bytes},
      {"file_bytes", c.file_bytes}};
  if (c.budget) j["budget"] = *c.budget;
  if (c.budget_bytes) j["budget_bytes"] = *c.budget_bytes;
  for (const ContextDocument& d : c.documents)
    j["documents"].push_back({{"name", d.name}, {"bytes", d.n_bytes}, {"sha256", d.sha256}});
  return j;
}

}  // namespace curdkv::app
