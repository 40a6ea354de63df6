// JSON lines, with errors that name file, line and field.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "curdkv/result.h"

namespace curdkv {

using Json = nlohmann::ordered_json;

// What text says in JSON; a discarded value if it is none, or nested deeper than anything written here is:
// copying and comparing values takes stack for every level.
Json parse_json(std::string_view text);

// Errors of all that reads a field: corrupt, naming it.
class JsonLine {
 public:
  JsonLine(std::string path, int64_t number, Json object)
      : path_(std::move(path)), number_(number), object_(std::move(object)) {}

  bool has(const char* field) const;  // and it is not null
  Result<std::string> text(const char* field) const;
  Result<std::vector<std::string>> texts(const char* field) const;  // a list of strings, at least one
  Result<int64_t> integer(const char* field) const;                 // >= 0
  Result<double> number(const char* field) const;
  Result<std::vector<double>> numbers(const char* field) const;  // a list
  Result<std::vector<JsonLine>> items(const char* field) const;  // a list of objects, at least one
  const Json& object() const { return object_; }
  std::string place() const;                   // "data.jsonl, line 3"
  Error error(const std::string& what) const;  // "data.jsonl, line 3: what"

 private:
  Result<const Json*> field(const char* name) const;

  std::string path_;
  int64_t number_;
  Json object_;
};

// Every line of a file that is not blank. Errors: as of read_text(); corrupt for a line that is no JSON
// object.
Result<std::vector<JsonLine>> read_jsonl(const std::string& path);
// The same of text that came from `path`.
Result<std::vector<JsonLine>> parse_jsonl(const std::string& path, std::string_view text);

}  // namespace curdkv
