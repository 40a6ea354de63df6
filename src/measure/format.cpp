#include "measure/format.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/format.h"

namespace curdkv::measure {
namespace {

using Json = nlohmann::ordered_json;

template <typename T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json to_json(const Row& row, const Setting& setting) {
  Json j = {{"engine", row.engine},
            {"test", to_string(row.test)},
            {"press", row.press},
            {"compression_ratio", row.compression_ratio},
            {"depth", row.depth},
            {"n_tokens", row.n_tokens},
            {"avg_ts", row.avg_ts()},
            {"stddev_ts", row.stddev_ts()},
            {"median_ts", row.median_ts()},
            {"samples_ts", row.ts},
            {"ratio_to_llama_cpp", row.ratios.empty() ? Json(nullptr) : Json(median(row.ratios))},
            {"samples_ratio", row.ratios},
            {"gbytes_per_s", or_null(row.gbytes_per_s)},
            {"gflops", or_null(row.gflops)},
            {"limit", or_null(row.limit)},
            {"kv_bytes", row.kv_bytes},
            {"rss_peak_bytes", or_null(row.rss_peak_bytes)},
            {"model", setting.model},
            {"n_threads", setting.n_threads},
            {"type_k", setting.type_k},
            {"type_v", setting.type_v},
            {"version", setting.version}};
  return j;
}

std::string dump(const Json& j) {
  return j.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

class JsonLines : public Format {
 public:
  explicit JsonLines(const Setting& setting) : setting_(setting) {}
  std::string row(const Row& row) override { return dump(to_json(row, setting_)) + "\n"; }

 private:
  Setting setting_;
};

class JsonArray : public Format {
 public:
  explicit JsonArray(const Setting& setting) : setting_(setting) {}
  std::string row(const Row& row) override {
    const std::string before = n_rows_++ == 0 ? "[\n  " : ",\n  ";
    return before + dump(to_json(row, setting_));
  }
  std::string foot() const override { return "\n]\n"; }

 private:
  Setting setting_;
  int n_rows_ = 0;
};

class Csv : public Format {
 public:
  explicit Csv(const Setting& setting) : setting_(setting) {}
  std::string row(const Row& row) override {
    const Json fields = to_json(row, setting_);
    std::string names, values;
    for (const auto& [name, value] : fields.items()) {
      if (value.is_array()) continue;  // the samples
      if (!names.empty()) names += ',', values += ',';
      names += name;
      if (!value.is_null()) values += quoted(value);
    }
    if (n_rows_++ == 0) values = names + "\n" + values;
    return values + "\n";
  }

 private:
  static std::string quoted(const Json& value) {
    if (!value.is_string()) return value.dump();
    std::string out = "\"";
    for (char c : value.get<std::string>()) out += c == '"' ? std::string("\"\"") : std::string(1, c);
    return out + "\"";
  }

  Setting setting_;
  int n_rows_ = 0;
};

class Markdown : public Format {
 public:
  explicit Markdown(const Setting& setting) : setting_(setting) {}
  std::string row(const Row& row) override { return (n_rows_++ == 0 ? head() : "") + line(row); }

 private:
  std::string head() const {
    return format("%s, %d thread%s, cache %s/%s; medians, ± standard deviation, ratios with their range\n\n",
                  setting_.model.c_str(), setting_.n_threads, setting_.n_threads == 1 ? "" : "s",
                  setting_.type_k.c_str(), setting_.type_v.c_str()) +
           "| engine | press | removed | test | depth | tokens/s | to llama.cpp | of the machine's limit | "
           "cache, "
           "MiB | RSS, MiB |\n|---|---|---|---|---|---|---|---|---|---|\n";
  }
  static std::string line(const Row& row) {
    const std::string test = to_string(row.test) + format(" %lld", static_cast<long long>(row.n_tokens));
    std::string ratio, limit, rss;
    if (!row.ratios.empty()) {
      const auto [least, most] = std::minmax_element(row.ratios.begin(), row.ratios.end());
      ratio = format("%.2f (%.2f to %.2f)", median(row.ratios), *least, *most);
    }
    if (row.limit) {
      const double reached = row.gflops ? *row.gflops : *row.gbytes_per_s;
      limit = format("%.1f of %.1f %s", reached, *row.limit, row.gflops ? "GFLOP/s" : "GB/s");
    }
    if (row.rss_peak_bytes) rss = format("%.1f", mib(*row.rss_peak_bytes));
    return format("| %s | %s | %.2f | %s | %lld | %.2f ± %.2f | %s | %s | %.1f | %s |\n", row.engine.c_str(),
                  row.press.c_str(), row.compression_ratio, test.c_str(), static_cast<long long>(row.depth),
                  row.median_ts(), row.stddev_ts(), ratio.c_str(), limit.c_str(), mib(row.kv_bytes),
                  rss.c_str());
  }
  static double mib(size_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

  Setting setting_;
  int n_rows_ = 0;
};

}  // namespace

std::unique_ptr<Format> make_format(const std::string& name, const Setting& setting) {
  if (name == "jsonl") return std::make_unique<JsonLines>(setting);
  if (name == "json") return std::make_unique<JsonArray>(setting);
  if (name == "csv") return std::make_unique<Csv>(setting);
  return std::make_unique<Markdown>(setting);
}

}  // namespace curdkv::measure
