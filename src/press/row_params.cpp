#include "press/row_params.h"

#include <algorithm>

namespace curdkv {

std::vector<PressParam> held_params() {
  return {
      choice_param("keys", "cache", {"cache", "auto", "f16", "q8", "q5", "q4", "q3"},
                   "how kept keys are held: as the cache type says; or centred, turned and in so many bits"),
      choice_param("values", "cache", {"cache", "auto", "f16", "q8", "q5", "q4", "q3"},
                   "how kept values are held, likewise; auto: the more room, the more bits"),
      real_param("key_error", 0.5, 0, 1e6,
                 "root mean square of what a logit is changed by that keys=auto lets pass")};
}

std::vector<PressParam> row_params() {
  std::vector<PressParam> all = held_params();
  all.push_back(choice_param("ratio_of", "rows", {"rows", "bytes"},
                             "what the compression ratio is a share of: rows, or bytes of an F16 cache"));
  return all;
}

RowType row_type_of(const std::string& name) {
  return name == "auto"  ? RowType::automatic
         : name == "f16" ? RowType::f16
         : name == "q8"  ? RowType::q8
         : name == "q5"  ? RowType::q5
         : name == "q4"  ? RowType::q4
         : name == "q3"  ? RowType::q3
                         : RowType::cache;
}

std::string spec_of(const PressRequest& request, const std::vector<PressParam>& table) {
  std::string spec = request.name;
  const std::vector<PressParam> rows = row_params();
  for (const auto& [name, text] : request.params) {
    const auto named = [&](const PressParam& p) { return p.name == name; };
    const auto param = std::find_if(table.begin(), table.end(), named);
    const bool is_default = param != table.end() && param->default_value == text;
    if (!is_default || std::none_of(rows.begin(), rows.end(), named)) spec += ":" + name + "=" + text;
  }
  return spec;
}

Result<void> check_byte_share(const Press& press, const std::string& selection) {
  if (press.share_of_bytes() == nullptr) return {};
  const std::string name = "press '" + press.name() + "': ";
  if (selection != "uniform") {
    return Error{ErrorCode::bad_argument,
                 name + "one budget of bytes over all heads leaves nothing to " + selection};
  }
  if (press.budget()) {
    return Error{ErrorCode::bad_argument, name + "it shares out bytes: give it a ratio or bytes, not tokens"};
  }
  return {};
}

}  // namespace curdkv
