// Values of a press's parameters, parsed and checked against its table once; read by name afterwards.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "curdkv/press.h"
#include "curdkv/result.h"

namespace curdkv {

PressParam bool_param(const char* name, bool value, const char* help);
PressParam int_param(const char* name, int64_t value, int64_t min, int64_t max, const char* help);
PressParam real_param(const char* name, double value, double min, double max, const char* help);
PressParam choice_param(const char* name, const char* value, std::vector<std::string> choices,
                        const char* help);
// Names another scorer, whose parameters become NAME.PARAM.
PressParam scorer_param(const char* name, const char* value, const char* help);

class ParamValues {
 public:
  // `given` are texts by name. Errors: bad_argument for an unknown name or a value outside the table.
  static Result<ParamValues> parse(std::span<const PressParam> table,
                                   const std::map<std::string, std::string>& given, const std::string& press);

  // The name must be in the table the values were parsed against.
  bool get_bool(const std::string& name) const { return texts_.at(name) == "true"; }
  int64_t get_int(const std::string& name) const { return std::stoll(texts_.at(name)); }
  double get_real(const std::string& name) const { return std::stod(texts_.at(name)); }
  const std::string& get_text(const std::string& name) const { return texts_.at(name); }

  // Those named "prefix.NAME", as NAME.
  ParamValues nested(const std::string& prefix) const;

  const std::map<std::string, std::string>& texts() const { return texts_; }

 private:
  std::map<std::string, std::string> texts_;
};

}  // namespace curdkv
