#include "report/press_names.h"

#include <map>

namespace curdkv::report {
namespace {

// The name, then "setting=value" each.
std::vector<std::string> parts_of(const std::string& press) {
  std::vector<std::string> parts;
  for (size_t at = 0; at <= press.size();) {
    const size_t end = std::min(press.find(':', at), press.size());
    parts.push_back(press.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

}  // namespace

std::vector<std::string> short_names(const std::vector<std::string>& presses) {
  struct Named {
    size_t n = 0;
    std::map<std::string, size_t> settings;  // how many have it
  };
  std::map<std::string, Named> named;
  for (const std::string& press : presses) {
    const std::vector<std::string> parts = parts_of(press);
    Named& of = named[parts[0]];
    ++of.n;
    for (size_t i = 1; i < parts.size(); ++i) ++of.settings[parts[i]];
  }
  std::vector<std::string> out;
  for (const std::string& press : presses) {
    const std::vector<std::string> parts = parts_of(press);
    const Named& of = named[parts[0]];
    out.push_back(parts[0]);
    for (size_t i = 1; i < parts.size(); ++i) {
      const bool shared = of.settings.at(parts[i]) == of.n;
      if (!shared || (of.n == 1 && !parts[i].starts_with("ratio_of="))) out.back() += " " + parts[i];
    }
  }
  return out;
}

}  // namespace curdkv::report
