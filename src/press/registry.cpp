// The registry: presses by their names, made of what entries.h and presets.h list. Help, flags, JSON and
// checks come from here.
#include <algorithm>
#include <span>

#include "base/format.h"
#include "base/guard.h"
#include "base/nearest.h"
#include "base/try.h"
#include "press/entries.h"
#include "press/presets.h"
#include "press/row_params.h"

namespace curdkv {
namespace {

template <typename Made, size_t n>
const Entry<Made>* find_in(const Entry<Made>* const (&entries)[n], const std::string& name) {
  for (const Entry<Made>* e : entries) {
    if (name == e->name) return e;
  }
  return nullptr;
}

const ScorerEntry* find_scorer(const std::string& name) {
  return find_in(kScorers, name);
}

template <typename Table>
std::vector<std::string> names_of(const Table& entries) {
  std::vector<std::string> names;
  for (const auto* e : entries) names.emplace_back(e->name);
  return names;
}

// A table with the parameters of the scorers it names, as given or by default, behind their prefix.
Result<std::vector<PressParam>> expand(const std::vector<PressParam>& table,
                                       const std::map<std::string, std::string>& given,
                                       const std::string& prefix) {
  std::vector<PressParam> all;
  for (PressParam p : table) {
    p.name = prefix + p.name;
    all.push_back(p);
    if (p.kind != "scorer") continue;
    const auto asked = given.find(p.name);
    const std::string scorer = asked == given.end() ? p.default_value : asked->second;
    const ScorerEntry* entry = find_scorer(scorer);
    if (entry == nullptr) {
      return Error{ErrorCode::bad_argument, "there is no scorer '" + scorer + "' for " + p.name +
                                                did_you_mean(scorer, names_of(kScorers))};
    }
    CURDKV_TRY(const auto nested, expand(entry->params(), given, p.name + "."));
    all.insert(all.end(), nested.begin(), nested.end());
  }
  return all;
}

std::vector<std::string> names_of_allocations() {
  std::vector<std::string> names = names_of(kSelections);
  for (const LayerBudgetEntry* e : kLayerBudgets) names.emplace_back(e->name);
  return names;
}

// Presses have a scorer and a selection, some a layer budget; what is told of a part alone has one of them.
struct Recipe {
  const ScorerEntry* scorer = nullptr;
  const SelectionEntry* selection = nullptr;
  const LayerBudgetEntry* layer_budget = nullptr;
  std::map<std::string, std::string> preset;  // the preset's own settings

  Result<std::vector<PressParam>> params(const std::map<std::string, std::string>& given) const {
    std::map<std::string, std::string> known = preset;
    for (const auto& entry : given) known[entry.first] = entry.second;
    std::vector<PressParam> all;
    if (scorer != nullptr) {
      CURDKV_TRY(all, expand(scorer->params(), known, ""));
    }
    for (PressParam& p : allocation_params()) all.push_back(std::move(p));
    if (scorer != nullptr && selection != nullptr) {
      for (PressParam& p : row_params()) all.push_back(std::move(p));
    }
    for (PressParam& p : all) {
      if (const auto own = preset.find(p.name); own != preset.end()) p.default_value = own->second;
    }
    return all;
  }

  std::vector<PressParam> allocation_params() const {
    std::vector<PressParam> all;
    if (layer_budget != nullptr) all = layer_budget->params();
    if (selection != nullptr) {
      for (PressParam& p : selection->params()) all.push_back(std::move(p));
    }
    return all;
  }

  // "pyramid", "adaptive" or "pyramid+adaptive". False if it names something else, or a kind twice.
  bool allocate_as(const std::string& names) {
    for (size_t at = 0; at <= names.size();) {
      const size_t end = std::min(names.find('+', at), names.size());
      const std::string name = names.substr(at, end - at);
      const auto* as_selection = find_in(kSelections, name);
      const auto* as_budget = find_in(kLayerBudgets, name);
      if (as_selection != nullptr ? selection != nullptr : as_budget == nullptr || layer_budget != nullptr)
        return false;
      if (as_selection != nullptr) selection = as_selection;
      if (as_budget != nullptr) layer_budget = as_budget;
      at = end + 1;
    }
    return true;
  }
};

// "key=value:key=value" into the map.
Result<void> read_settings(const std::string& text, const std::string& spec,
                           std::map<std::string, std::string>& into) {
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find(':', at), text.size());
    const std::string part = text.substr(at, end - at);
    const size_t equals = part.find('=');
    if (equals == std::string::npos || equals == 0) {
      return Error{ErrorCode::bad_argument,
                   "press '" + spec + "': '" + part + "' is not of the form name=value"};
    }
    into[part.substr(0, equals)] = part.substr(equals + 1);
    at = end + 1;
  }
  return {};
}

Recipe recipe_of(const std::string& scorer, const std::string& allocation, const std::string& settings) {
  Recipe r;
  r.scorer = find_scorer(scorer);
  if (!allocation.empty()) r.allocate_as(allocation);
  if (r.scorer != nullptr && r.selection == nullptr && r.layer_budget != nullptr)
    r.selection = find_in(kSelections, "uniform");
  [[maybe_unused]] const auto read = read_settings(settings, "", r.preset);
  return r;
}

// What may have been meant by a name that no press has, or "".
std::string press_meant(const std::string& name, const std::vector<std::string>& names) {
  if (find_scorer(name) != nullptr) return name + "+uniform";
  const size_t plus = name.find('+');
  if (plus == std::string::npos) return nearest(name, names);
  const std::string scorer = nearest(name.substr(0, plus), names_of(kScorers));
  const std::string allocation = nearest(name.substr(plus + 1), names_of_allocations());
  return scorer.empty() || allocation.empty() ? "" : scorer + "+" + allocation;
}

Error no_such_press(const std::string& name, const std::vector<std::string>& names) {
  const std::string meant = press_meant(name, names);
  std::string there_are;
  for (const PresetEntry& p : kPresets) there_are += std::string(", ") + p.name;
  return {ErrorCode::bad_argument,
          "there is no press '" + name + "' (" +
              (meant.empty() ? "there are: none" + there_are + "; or SCORER+ALLOCATION, see 'curdkv presses')"
                             : "did you mean '" + meant + "'? 'curdkv presses' lists all)")};
}

// A preset's recipe, or SCORER+ALLOCATION.
Result<Recipe> resolve(const std::string& name) {
  for (const PresetEntry& p : kPresets) {
    if (name == p.name) return recipe_of(p.scorer, p.allocation, p.params);
  }
  if (const size_t plus = name.find('+'); plus != std::string::npos) {
    const std::string scorer = name.substr(0, plus), allocation = name.substr(plus + 1);
    if (find_scorer(scorer) != nullptr && Recipe().allocate_as(allocation))
      return recipe_of(scorer, allocation, "");
  }
  std::vector<std::string> names = {"none"};
  for (const PresetEntry& p : kPresets) names.emplace_back(p.name);
  return no_such_press(name, names);
}

// "name:key=value:key=value" taken apart into the request.
Result<void> split_spec(PressRequest& request) {
  const std::string spec = request.name;
  const size_t colon = std::min(spec.find(':'), spec.size());
  request.name = spec.substr(0, colon);
  if (colon == spec.size()) return {};
  if (colon + 1 == spec.size()) {
    return Error{ErrorCode::bad_argument, "press '" + spec + "': '' is not of the form name=value"};
  }
  return read_settings(spec.substr(colon + 1), spec, request.params);
}

}  // namespace

std::unique_ptr<Scorer> make_scorer(const ParamValues& values, const char* param) {
  return find_scorer(values.get_text(param))->make(values.nested(param));
}

std::vector<PressInfo> list_presses() {
  std::vector<PressInfo> list = {{"none", "", "", "", "the full cache", "", held_params()}};
  for (const PresetEntry& p : kPresets) {
    const Recipe r = recipe_of(p.scorer, p.allocation, p.params);
    list.push_back({p.name, p.scorer, p.allocation, p.params, p.summary, r.scorer->reference, *r.params({})});
  }
  for (const ScorerEntry* s : kScorers) {
    list.push_back({s->name, s->name, "", "", s->summary, s->reference, *expand(s->params(), {}, "")});
  }
  const auto add = [&](const auto* a) {
    list.push_back({a->name, "", a->name, "", a->summary, a->reference, a->params()});
  };
  for (const SelectionEntry* a : kSelections) add(a);
  for (const LayerBudgetEntry* a : kLayerBudgets) add(a);
  return list;
}

Result<PressInfo> find_press(const std::string& name) {
  return guarded([&]() -> Result<PressInfo> {
    PressRequest asked;
    asked.name = name;
    CURDKV_CHECK(split_spec(asked));
    PressInfo info;
    std::vector<std::string> names;
    for (PressInfo& p : list_presses()) {
      names.push_back(p.name);
      if (p.name == asked.name && info.name.empty()) info = std::move(p);
    }
    if (info.name.empty()) {
      const Result<Recipe> pair = resolve(asked.name);
      if (!pair) return no_such_press(asked.name, names);
      info = {asked.name,
              pair->scorer->name,
              asked.name.substr(asked.name.find('+') + 1),
              "",
              std::string(pair->scorer->summary) + (pair->layer_budget != nullptr ? "; " : "") +
                  (pair->layer_budget != nullptr ? pair->layer_budget->summary : "") + "; " +
                  pair->selection->summary,
              pair->scorer->reference,
              {}};
    }
    if (info.name != "none") {
      CURDKV_TRY(info.params, recipe_of(info.scorer, info.allocation, info.settings).params(asked.params));
    }
    CURDKV_CHECK(ParamValues::parse(info.params, asked.params, asked.name));
    return info;
  });
}

void Press::hold_rows(const std::map<std::string, std::string>& values) {
  rows_k_ = row_type_of(values.at("keys"));
  rows_v_ = row_type_of(values.at("values"));
  key_error_ = std::stod(values.at("key_error"));
}

Result<Press> Press::make(const PressRequest& asked) {
  return guarded([&]() -> Result<Press> {
    PressRequest request = asked;
    CURDKV_CHECK(split_spec(request));
    if (!(request.compression_ratio >= 0 && request.compression_ratio < 1)) {
      return Error{ErrorCode::bad_argument,
                   "the compression ratio is the fraction removed and must lie in [0, 1)"};
    }
    if (request.budget && *request.budget < 1) {
      return Error{ErrorCode::bad_argument, "the budget is in tokens per KV head and must be at least 1"};
    }
    if (request.budget_bytes && *request.budget_bytes < 1) {
      return Error{ErrorCode::bad_argument, "the budget is in bytes of the cache and must be at least 1"};
    }
    if (request.protect_last < 0) {
      return Error{ErrorCode::bad_argument, "the number of protected tokens cannot be negative"};
    }
    Press press;
    press.name_ = request.name;
    press.compression_ratio_ = request.compression_ratio;
    press.budget_ = request.budget;
    press.budget_bytes_ = request.budget_bytes;
    press.protect_last_ = request.protect_last;
    press.seed_ = request.seed;
    if (request.name == "none") {
      CURDKV_TRY(const auto values, ParamValues::parse(held_params(), request.params, "none"));
      press.spec_ = spec_of(request, held_params());
      press.hold_rows(values.texts());
      press.compression_ratio_ = 0;
      press.budget_.reset();
      press.budget_bytes_.reset();
      return press;
    }
    CURDKV_TRY(const Recipe recipe, resolve(request.name));
    CURDKV_TRY(const std::vector<PressParam> table, recipe.params(request.params));
    CURDKV_TRY(const auto values, ParamValues::parse(table, request.params, request.name));
    press.spec_ = spec_of(request, table);
    press.hold_rows(values.texts());
    press.counts_bytes_ = values.get_text("ratio_of") == "bytes";
    auto scoring = press.settings_ = values.texts();
    for (const PressParam& p : recipe.allocation_params()) scoring.erase(p.name);
    for (const PressParam& p : row_params()) {
      scoring.erase(p.name);
      if (press.settings_.at(p.name) == p.default_value) press.settings_.erase(p.name);
    }
    press.scoring_ = recipe.scorer->name + format(" %llu", (unsigned long long)request.seed);
    for (const auto& [name, text] : scoring) press.scoring_ += ":" + name + "=" + text;
    press.scorer_ = recipe.scorer->make(values);
    press.selection_ = recipe.selection->make(values);
    if (recipe.layer_budget != nullptr) press.layer_budget_ = recipe.layer_budget->make(values);
    press.counts_bytes_ = press.counts_bytes_ || press.share_of_bytes() != nullptr || press.budget_bytes_;
    CURDKV_CHECK(check_byte_share(press, recipe.selection->name));
    return press;
  });
}

}  // namespace curdkv
