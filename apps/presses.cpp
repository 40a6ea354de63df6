// curdkv presses: the presses there are; or one of them, with its parameters, their ranges and defaults.
#include <optional>

#include "base/format.h"
#include "base/try.h"
#include "command.h"
#include "terminal.h"

namespace curdkv::app {
namespace {

const char* kind_of(const PressInfo& p) {
  if (p.scorer.empty() && p.allocation.empty()) return "preset";
  return p.scorer.empty() ? "allocation" : p.allocation.empty() ? "scorer" : "preset";
}

nlohmann::ordered_json to_json(const PressInfo& p) {
  nlohmann::ordered_json j = {{"name", p.name},           {"kind", kind_of(p)},
                              {"scorer", p.scorer},       {"allocation", p.allocation},
                              {"settings", p.settings},   {"summary", p.summary},
                              {"reference", p.reference}, {"params", nlohmann::ordered_json::array()}};
  for (const PressParam& q : p.params) {
    nlohmann::ordered_json param = {
        {"name", q.name}, {"kind", q.kind}, {"default", q.default_value}, {"help", q.help}};
    if (const std::string option = press_option(q); !option.empty()) param["option"] = option;
    if (q.kind == "int" || q.kind == "real") {
      param["min"] = q.min;
      param["max"] = q.max;
    }
    if (q.kind == "choice") param["choices"] = q.choices;
    j["params"].push_back(param);
  }
  return j;
}

std::string list_text() {
  std::string out;
  for (const char* kind : {"preset", "scorer", "allocation"}) {
    out += std::string(kind) + "s";
    out += kind == std::string("preset") ? " (--press NAME)\n"
           : kind == std::string("scorer")
               ? " (--press SCORER+ALLOCATION)\n"
               : " (pyramid goes with each of the others: snapkv+pyramid+adaptive)\n";
    for (const PressInfo& p : list_presses()) {
      if (kind_of(p) != std::string(kind)) continue;
      out += format("  %-19s ", p.name.c_str()) + p.summary;
      if (!p.scorer.empty() && !p.allocation.empty()) out += " = " + p.scorer + "+" + p.allocation;
      if (!p.settings.empty()) out += ":" + p.settings;
      out += "\n";
      if (kind != std::string("preset") && !p.reference.empty()) out += "    from " + p.reference + "\n";
    }
    out += "\n";
  }
  return out + "'curdkv presses NAME' tells what parameters one has, as in: curdkv presses snapkv\n";
}

std::string range_of(const PressParam& p) {
  if (p.kind == "bool") return "true or false";
  if (p.kind == "scorer") return "a scorer";
  if (p.kind != "choice") return format("%.15g to %.15g", p.min, p.max);
  std::string all;
  for (const std::string& c : p.choices)
    all += (all.empty() ? "" : c == p.choices.back() ? " or " : ", ") + c;
  return all;
}

// How --press asks for it.
std::string asked_as(const PressInfo& p) {
  if (p.allocation.empty() && !p.scorer.empty()) return p.name + "+ALLOCATION";
  if (p.scorer.empty() && !p.allocation.empty()) return "SCORER+" + p.name;
  return p.name;
}

std::string press_text(const PressInfo& p) {
  std::string out = p.name + ": " + p.summary + "\n  as in: --press " + asked_as(p) + "\n";
  const std::string pair = p.scorer + "+" + p.allocation;
  if (!p.scorer.empty() && !p.allocation.empty() && p.name != pair) {
    out += "  made of: " + pair + (p.settings.empty() ? "" : ":" + p.settings) + "\n";
  }
  if (!p.reference.empty()) out += "  from: " + p.reference + "\n";
  if (p.params.empty()) return out + "\nIt has no parameters.\n";
  out += "\nparameters\n";
  bool within = false;
  for (const PressParam& q : p.params) {
    const std::string option = press_option(q);
    within = within || option.empty();
    out += format("  %-19s ", (option.empty() ? q.name : option).c_str()) + q.help + "\n" +
           format("  %-19s ", "") + range_of(q) +
           "; default: " + (q.default_value.empty() ? "none" : q.default_value) + "\n";
  }
  const PressParam& first = p.params[0];
  out += "\nA parameter is an option (" + press_option(first) + " " + first.default_value +
         ") or stands behind the name (--press " + asked_as(p) + ":" + first.name + "=" +
         first.default_value + ").\n";
  if (within) out += "One with a dot in it, of a scorer within this one, stands behind the name only.\n";
  return out;
}

Result<std::string> output(const std::optional<std::string>& name, bool json) {
  if (name) {
    CURDKV_TRY(const PressInfo press, find_press(*name));
    return json ? to_json(press).dump(2) + "\n" : press_text(press);
  }
  if (!json) return list_text();
  auto list = nlohmann::ordered_json::array();
  for (const PressInfo& p : list_presses()) list.push_back(to_json(p));
  return list.dump(2) + "\n";
}

}  // namespace

Command add_presses(CLI::App& program) {
  CLI::App* app = program.add_subcommand(
      "presses", "list the ways a cache can be compressed, or tell one's parameters: curdkv presses NAME");
  auto name = std::make_shared<std::optional<std::string>>();
  auto json = std::make_shared<bool>(false);
  app->add_option_function<std::string>(
         "NAME", [name](const std::string& text) { *name = text; },
         "the press whose parameters are told: a preset, SCORER+ALLOCATION, or either alone")
      ->type_name("");
  app->add_flag("--json", *json, "print JSON");
  return [name, json] {
    const auto text = output(*name, *json);
    if (!text) return report(text.error());
    const auto written = write_out(*text);
    return written ? kOk : report(written.error());
  };
}

}  // namespace curdkv::app
