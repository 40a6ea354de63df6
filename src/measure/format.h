// Rows of a benchmark as Markdown, CSV, JSON or a JSON line each.
#pragma once

#include <memory>
#include <string>

#include "measure/bench.h"

namespace curdkv::measure {

// What all rows of a run have in common.
struct Setting {
  std::string model;  // its file's name
  int n_threads = 1;
  std::string type_k, type_v;
  std::string version;  // of curdkv
};

class Format {
 public:
  virtual ~Format() = default;
  virtual std::string row(const Row& row) = 0;  // behind a head, if it is the first
  virtual std::string foot() const { return ""; }
};

// name: "md", "csv", "json" or "jsonl".
std::unique_ptr<Format> make_format(const std::string& name, const Setting& setting);

}  // namespace curdkv::measure
