// A line of the registry. Every scorer file defines one `const ScorerEntry NAME_scorer`, every allocation
// file one `const AllocationEntry NAME_allocation`.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "press/allocation.h"
#include "press/params.h"
#include "press/scorer.h"

namespace curdkv {

struct ScorerEntry {
  const char* name;
  const char* summary;
  const char* reference;  // paper, reference implementation
  std::vector<PressParam> (*params)();
  std::unique_ptr<Scorer> (*make)(const ParamValues&);
};

struct AllocationEntry {
  const char* name;
  const char* summary;
  const char* reference;
  std::vector<PressParam> (*params)();
  std::unique_ptr<Allocation> (*make)(const ParamValues&);
};

inline std::vector<PressParam> no_params() {
  return {};
}

// The scorer that a parameter of kind "scorer" names, with its own parameters ("base.window=32").
std::unique_ptr<Scorer> make_scorer(const ParamValues& values, const char* param);

}  // namespace curdkv
