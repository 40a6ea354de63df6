#include "press/params.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/format.h"

namespace curdkv {
namespace {

std::string text_of(double v) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, v).ptr;
  return std::string(buffer, end);
}

// "" if the text is a good value, else what is wrong with it. Normalises on/off/1/0 to true/false.
std::string check(const PressParam& p, std::string& text) {
  if (p.kind == "bool") {
    if (text == "on" || text == "1") text = "true";
    if (text == "off" || text == "0") text = "false";
    return text == "true" || text == "false" ? "" : "must be true or false";
  }
  if (p.kind == "choice") {
    if (std::find(p.choices.begin(), p.choices.end(), text) != p.choices.end()) return "";
    std::string all;
    for (const auto& c : p.choices) all += (all.empty() ? "" : ", ") + c;
    return "must be one of " + all;
  }
  if (p.kind == "scorer") return "";  // looked up by the registry
  double value = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (ec != std::errc() || end != text.data() + text.size() || !std::isfinite(value))
    return "is not a number";
  if (p.kind == "int" && value != std::floor(value)) return "must be a whole number";
  if (value < p.min || value > p.max) {
    return "must be between " + text_of(p.min) + " and " + text_of(p.max);
  }
  if (p.kind == "int") text = std::to_string(static_cast<int64_t>(value));
  return "";
}

}  // namespace

PressParam bool_param(const char* name, bool value, const char* help) {
  return {name, "bool", value ? "true" : "false", 0, 0, {}, help};
}
PressParam int_param(const char* name, int64_t value, int64_t min, int64_t max, const char* help) {
  return {name, "int", std::to_string(value), static_cast<double>(min), static_cast<double>(max), {}, help};
}
PressParam real_param(const char* name, double value, double min, double max, const char* help) {
  return {name, "real", text_of(value), min, max, {}, help};
}
PressParam choice_param(const char* name, const char* value, std::vector<std::string> choices,
                        const char* help) {
  return {name, "choice", value, 0, 0, std::move(choices), help};
}

PressParam scorer_param(const char* name, const char* value, const char* help) {
  return {name, "scorer", value, 0, 0, {}, help};
}

ParamValues ParamValues::nested(const std::string& prefix) const {
  ParamValues out;
  for (const auto& [name, text] : texts_) {
    if (name.starts_with(prefix + ".")) out.texts_[name.substr(prefix.size() + 1)] = text;
  }
  return out;
}

Result<ParamValues> ParamValues::parse(std::span<const PressParam> table,
                                       const std::map<std::string, std::string>& given,
                                       const std::string& press) {
  ParamValues values;
  for (const PressParam& p : table) values.texts_[p.name] = p.default_value;
  for (const auto& entry : given) {
    const std::string &name = entry.first, &text = entry.second;
    const auto p =
        std::find_if(table.begin(), table.end(), [&](const PressParam& q) { return q.name == name; });
    if (p == table.end()) {
      std::string all;
      for (const auto& q : table) all += (all.empty() ? "" : ", ") + q.name;
      return Error{ErrorCode::bad_argument, "press '" + press + "' has no parameter '" + name +
                                                "' (it has: " + (all.empty() ? "none" : all) + ")"};
    }
    std::string value = text;
    if (const std::string wrong = check(*p, value); !wrong.empty()) {
      return Error{ErrorCode::bad_argument, format("press '%s': %s = '%s' %s", press.c_str(), name.c_str(),
                                                   text.c_str(), wrong.c_str())};
    }
    values.texts_[name] = value;
  }
  return values;
}

}  // namespace curdkv
