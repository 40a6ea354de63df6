// A line of the registry. Every scorer file defines one `const ScorerEntry NAME_scorer`, every selection file
// one `const SelectionEntry NAME_selection`, every layer budget one `const LayerBudgetEntry
// NAME_layer_budget`.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "press/allocation.h"
#include "press/params.h"
#include "press/scorer.h"

namespace curdkv {

template <typename Made>
struct Entry {
  const char* name;
  const char* summary;
  const char* reference;  // paper, reference implementation
  std::vector<PressParam> (*params)();
  std::unique_ptr<Made> (*make)(const ParamValues&);
};
using ScorerEntry = Entry<Scorer>;
using SelectionEntry = Entry<Selection>;
using LayerBudgetEntry = Entry<LayerBudget>;

inline std::vector<PressParam> no_params() {
  return {};
}

// The scorer that a parameter of kind "scorer" names, with its own parameters ("base.window=32").
std::unique_ptr<Scorer> make_scorer(const ParamValues& values, const char* param);

}  // namespace curdkv
