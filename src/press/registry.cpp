// The registry: every scorer, allocation and preset, one line each. Help, flags, JSON and checks come from
// here.
#include <algorithm>
#include <span>

#include "base/try.h"
#include "press/allocations.h"
#include "press/scorers.h"

namespace curdkv {
namespace {

std::vector<PressParam> no_params() {
  return {};
}

struct ScorerEntry {
  const char* name;
  const char* summary;
  const char* reference;
  std::vector<PressParam> (*params)();
  std::unique_ptr<Scorer> (*make)(const ParamValues&);
};

struct AllocationEntry {
  const char* name;
  const char* summary;
  std::vector<PressParam> (*params)();
  std::unique_ptr<Allocation> (*make)(const ParamValues&);
};

struct PresetEntry {
  const char* name;
  const char* scorer;
  const char* allocation;
  const char* summary;
};

constexpr ScorerEntry kScorers[] = {
    {"cur", "approximate leverage scores of keys and values",
     "CurDKV (NeurIPS 2025), Algorithm 1; kvpress CURPress", cur_params, make_cur},
};

constexpr AllocationEntry kAllocations[] = {
    {"uniform", "the same number of tokens for every KV head", no_params, make_uniform},
    {"adaptive", "the best tokens across all KV heads of a layer (AdaKV)", adaptive_params, make_adaptive},
};

constexpr PresetEntry kPresets[] = {
    {"curdkv", "cur", "uniform", "value-guided eviction, every KV head alike"},
    {"adacurdkv", "cur", "adaptive", "value-guided eviction, room shared among the KV heads of a layer"},
};

template <typename Entry, size_t N>
const Entry* find(const Entry (&table)[N], const std::string& name) {
  for (const Entry& e : table) {
    if (name == e.name) return &e;
  }
  return nullptr;
}

struct Pair {
  const ScorerEntry* scorer;
  const AllocationEntry* allocation;

  std::vector<PressParam> params() const {
    std::vector<PressParam> all = scorer->params();
    for (PressParam& p : allocation->params()) all.push_back(std::move(p));
    return all;
  }
};

// A preset's pair, or SCORER+ALLOCATION.
Result<Pair> resolve(const std::string& name) {
  std::string scorer = name.substr(0, name.find('+'));
  std::string allocation = name.find('+') == std::string::npos ? "" : name.substr(name.find('+') + 1);
  if (const PresetEntry* preset = find(kPresets, name)) {
    scorer = preset->scorer;
    allocation = preset->allocation;
  }
  const Pair pair = {find(kScorers, scorer), find(kAllocations, allocation)};
  if (pair.scorer != nullptr && pair.allocation != nullptr) return pair;
  std::string all = "none";
  for (const PresetEntry& p : kPresets) all += std::string(", ") + p.name;
  return Error{ErrorCode::bad_argument, "there is no press '" + name + "' (there are: " + all +
                                            "; or SCORER+ALLOCATION, see 'curdkv presses')"};
}

// "name:key=value:key=value" taken apart into the request.
Result<void> split_spec(PressRequest& request) {
  const std::string spec = request.name;
  size_t colon = spec.find(':');
  request.name = spec.substr(0, colon);
  while (colon != std::string::npos) {
    const size_t next = spec.find(':', colon + 1);
    const std::string part = spec.substr(colon + 1, next == std::string::npos ? next : next - colon - 1);
    const size_t equals = part.find('=');
    if (equals == std::string::npos || equals == 0) {
      return Error{ErrorCode::bad_argument,
                   "press '" + spec + "': '" + part + "' is not of the form name=value"};
    }
    request.params[part.substr(0, equals)] = part.substr(equals + 1);
    colon = next;
  }
  return {};
}

}  // namespace

std::vector<PressInfo> list_presses() {
  std::vector<PressInfo> list = {{"none", "", "", "the full cache", "", {}}};
  for (const PresetEntry& p : kPresets) {
    const Pair pair = {find(kScorers, p.scorer), find(kAllocations, p.allocation)};
    list.push_back({p.name, p.scorer, p.allocation, p.summary, pair.scorer->reference, pair.params()});
  }
  for (const ScorerEntry& s : kScorers)
    list.push_back({s.name, s.name, "", s.summary, s.reference, s.params()});
  for (const AllocationEntry& a : kAllocations)
    list.push_back({a.name, "", a.name, a.summary, "", a.params()});
  return list;
}

Result<Press> Press::make(const PressRequest& asked) {
  PressRequest request = asked;
  CURDKV_CHECK(split_spec(request));
  if (!(request.compression_ratio >= 0 && request.compression_ratio < 1)) {
    return Error{ErrorCode::bad_argument,
                 "the compression ratio is the fraction removed and must lie in [0, 1)"};
  }
  if (request.budget && *request.budget < 1) {
    return Error{ErrorCode::bad_argument, "the budget is in tokens per KV head and must be at least 1"};
  }
  Press press;
  press.name_ = request.name;
  press.compression_ratio_ = request.compression_ratio;
  press.budget_ = request.budget;
  press.seed_ = request.seed;
  if (request.name == "none") {
    CURDKV_TRY([[maybe_unused]] const auto unused, ParamValues::parse({}, request.params, "none"));
    press.compression_ratio_ = 0;
    press.budget_.reset();
    return press;
  }
  CURDKV_TRY(const Pair pair, resolve(request.name));
  const std::vector<PressParam> table = pair.params();
  CURDKV_TRY(const auto values, ParamValues::parse(table, request.params, request.name));
  press.settings_ = values.texts();
  press.scorer_ = pair.scorer->make(values);
  press.allocation_ = pair.allocation->make(values);
  return press;
}

int64_t Press::n_kept(int64_t n_tokens) const {
  if (is_none()) return n_tokens;
  const double kept = static_cast<double>(n_tokens) * (1.0 - compression_ratio_);
  const int64_t wanted = budget_ ? *budget_ : static_cast<int64_t>(kept);
  return std::min(n_tokens, std::max(wanted, scorer_->n_sinks() + 1));
}

}  // namespace curdkv
