#include "io/jsonl.h"

#include <limits>

#include "base/try.h"
#include "io/input_file.h"

namespace curdkv {
namespace {

constexpr int kMostDepth = 64;

// Brackets outside strings.
bool is_nested_deeper(std::string_view text, int most) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      in_string = c != '"';
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > most) return true;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return false;
}

}  // namespace

Json parse_json(std::string_view text) {
  if (is_nested_deeper(text, kMostDepth)) return Json(Json::value_t::discarded);
  return Json::parse(text, nullptr, false);
}

std::string JsonLine::place() const {
  return path_ + ", line " + std::to_string(number_);
}

Error JsonLine::error(const std::string& what) const {
  return {ErrorCode::corrupt, place() + ": " + what};
}

bool JsonLine::has(const char* field) const {
  const auto it = object_.find(field);
  return it != object_.end() && !it->is_null();
}

Result<const Json*> JsonLine::field(const char* name) const {
  const auto it = object_.find(name);
  if (it == object_.end()) return error(std::string("field '") + name + "' is missing");
  return &*it;
}

Result<std::string> JsonLine::text(const char* name) const {
  CURDKV_TRY(const Json* value, field(name));
  if (!value->is_string()) return error(std::string("field '") + name + "' is no string");
  return value->get<std::string>();
}

Result<std::vector<std::string>> JsonLine::texts(const char* name) const {
  CURDKV_TRY(const Json* value, field(name));
  bool fits = value->is_array() && !value->empty();
  for (size_t i = 0; fits && i < value->size(); ++i) fits = (*value)[i].is_string();
  if (!fits) return error(std::string("field '") + name + "' is no list of strings, or empty");
  return value->get<std::vector<std::string>>();
}

Result<int64_t> JsonLine::integer(const char* name) const {
  CURDKV_TRY(const Json* value, field(name));
  const bool fits = value->is_number_unsigned()
                        ? value->get<uint64_t>() <= uint64_t{std::numeric_limits<int64_t>::max()}
                        : value->is_number_integer() && value->get<int64_t>() >= 0;
  if (!fits) return error(std::string("field '") + name + "' is no whole number from 0 to 2^63 - 1");
  return value->get<int64_t>();
}

Result<double> JsonLine::number(const char* name) const {
  CURDKV_TRY(const Json* value, field(name));
  if (!value->is_number()) return error(std::string("field '") + name + "' is no number");
  return value->get<double>();
}

Result<std::vector<double>> JsonLine::numbers(const char* name) const {
  CURDKV_TRY(const Json* value, field(name));
  bool fits = value->is_array();
  for (size_t i = 0; fits && i < value->size(); ++i) fits = (*value)[i].is_number();
  if (!fits) return error(std::string("field '") + name + "' is no list of numbers");
  return value->get<std::vector<double>>();
}

Result<std::vector<JsonLine>> JsonLine::items(const char* name) const {
  CURDKV_TRY(const Json* value, field(name));
  std::vector<JsonLine> out;
  if (value->is_array()) {
    for (const Json& item : *value) {
      if (item.is_object()) out.emplace_back(path_, number_, item);
    }
  }
  if (out.empty() || out.size() != value->size())
    return error(std::string("field '") + name + "' is no list of objects, or empty");
  return out;
}

Result<std::vector<JsonLine>> parse_jsonl(const std::string& path, std::string_view text) {
  std::vector<JsonLine> out;
  int64_t number = 0;
  for (const std::string_view line : lines_of(text)) {
    ++number;
    if (line.find_first_not_of(" \t") == std::string_view::npos) continue;
    JsonLine parsed(path, number, parse_json(line));
    if (!parsed.object().is_object()) {
      const bool deep = is_nested_deeper(line, kMostDepth);
      return parsed.error(deep ? "nested more than " + std::to_string(kMostDepth) + " levels deep"
                               : std::string("not a JSON object"));
    }
    out.push_back(std::move(parsed));
  }
  return out;
}

Result<std::vector<JsonLine>> read_jsonl(const std::string& path) {
  CURDKV_TRY(const std::string text, read_text(path));
  return parse_jsonl(path, text);
}

}  // namespace curdkv
