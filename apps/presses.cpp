// curdkv presses: every press with its parameters, defaults and reference.
#include <cstdio>

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
    if (q.kind == "int" || q.kind == "real") {
      param["min"] = q.min;
      param["max"] = q.max;
    }
    if (q.kind == "choice") param["choices"] = q.choices;
    j["params"].push_back(param);
  }
  return j;
}

std::string as_text() {
  std::string out;
  for (const char* kind : {"preset", "scorer", "allocation"}) {
    out += std::string(kind) + "s";
    out += kind == std::string("preset")   ? " (--press NAME)\n"
           : kind == std::string("scorer") ? " (--press SCORER+ALLOCATION)\n"
                                           : "\n";
    for (const PressInfo& p : list_presses()) {
      if (kind_of(p) != std::string(kind)) continue;
      char name[64];
      std::snprintf(name, sizeof name, "  %-19s ", p.name.c_str());
      out += name + p.summary;
      if (!p.scorer.empty() && !p.allocation.empty()) out += " = " + p.scorer + "+" + p.allocation;
      if (!p.settings.empty()) out += ":" + p.settings;
      out += "\n";
      if (kind == std::string("preset")) continue;
      if (!p.reference.empty()) out += "    from " + p.reference + "\n";
      for (const PressParam& q : p.params) {
        std::string values = q.kind;
        if (q.kind == "choice") {
          values.clear();
          for (const auto& c : q.choices) values += (values.empty() ? "" : "|") + c;
        }
        out += "    " + q.name + "=" + q.default_value + " (" + values + "): " + q.help + "\n";
      }
    }
    out += "\n";
  }
  return out +
         "Parameters are flags of their own (--sinks 8) or part of the name (--press curdkv:sinks=8).\n";
}

}  // namespace

Command add_presses(CLI::App& program) {
  CLI::App* app =
      program.add_subcommand("presses", "list the ways a cache can be compressed, with their parameters");
  auto json = std::make_shared<bool>(false);
  app->add_flag("--json", *json, "print JSON");
  return [json] {
    std::string out = as_text();
    if (*json) {
      auto list = nlohmann::ordered_json::array();
      for (const PressInfo& p : list_presses()) list.push_back(to_json(p));
      out = list.dump(2) + "\n";
    }
    const auto written = write_out(out);
    return written ? kOk : report(written.error());
  };
}

}  // namespace curdkv::app
