// The registry: every scorer, allocation and preset, one line each. Help, flags, JSON and checks come from
// here.
#include <algorithm>
#include <span>

#include "base/format.h"
#include "base/guard.h"
#include "base/try.h"
#include "press/entry.h"

// Adding a scorer or an allocation: its file, and its name here.
#define CURDKV_SCORERS(X) \
  X(cur)                  \
  X(leverage)             \
  X(knorm)                \
  X(keydiff)              \
  X(lagkv)                \
  X(snapkv)               \
  X(tova)                 \
  X(observed_attention)   \
  X(scissorshands)        \
  X(expected_attention)   \
  X(noncausal_attention)  \
  X(compactor)            \
  X(criticalkv)           \
  X(mix)                  \
  X(kvzip)                \
  X(streaming_llm)        \
  X(random)

#define CURDKV_ALLOCATIONS(X) \
  X(uniform)                  \
  X(adaptive)                 \
  X(chunk)                    \
  X(pyramid)

namespace curdkv {

#define CURDKV_DECLARE(name) extern const ScorerEntry name##_scorer;
CURDKV_SCORERS(CURDKV_DECLARE)
#undef CURDKV_DECLARE
#define CURDKV_DECLARE(name) extern const AllocationEntry name##_allocation;
CURDKV_ALLOCATIONS(CURDKV_DECLARE)
#undef CURDKV_DECLARE

namespace {

#define CURDKV_POINTER(name) &name##_scorer,
const ScorerEntry* const kScorers[] = {CURDKV_SCORERS(CURDKV_POINTER)};
#undef CURDKV_POINTER
#define CURDKV_POINTER(name) &name##_allocation,
const AllocationEntry* const kAllocations[] = {CURDKV_ALLOCATIONS(CURDKV_POINTER)};
#undef CURDKV_POINTER

struct PresetEntry {
  const char* name;
  const char* scorer;
  const char* allocation;
  const char* params;  // "name=value:name=value", over the defaults
  const char* summary;
};

constexpr PresetEntry kPresets[] = {
    {"curdkv", "cur", "uniform", "", "value-guided eviction, every KV head alike"},
    {"adacurdkv", "cur", "adaptive", "", "value-guided eviction, room shared among the KV heads of a layer"},
    {"chunkcurdkv", "cur", "chunk", "", "value-guided eviction of whole chunks"},
    {"leverage", "leverage", "uniform", "", "exact leverage scores of keys and values"},
    {"adaleverage", "leverage", "adaptive", "", "exact leverage scores, room shared among heads"},
    {"ridgekv", "leverage", "uniform", "ridge=10:smooth=3", "leverage scores with a ridge, smoothed"},
    {"adaridgekv", "leverage", "adaptive", "ridge=10:smooth=3", "the same, room shared among heads"},
    {"mixkv", "mix", "uniform", "first.ridge=3:first.smooth=3",
     "ridge leverage for 0.7, non-causal attention for 0.3"},
    {"snapkv", "snapkv", "uniform", "", "what the last tokens attend to"},
    {"adasnapkv", "snapkv", "adaptive", "", "the same, room shared among heads"},
    {"chunkkv", "snapkv", "chunk", "", "the same, whole chunks"},
    {"pyramidkv", "snapkv", "pyramid", "", "the same, more in lower layers"},
    {"streamingllm", "streaming_llm", "uniform", "", "the first tokens and the latest"},
    {"knorm", "knorm", "uniform", "", "keys of small norm"},
    {"h2o", "observed_attention", "uniform", "", "what got most attention over the whole context"},
    {"scissorshands", "scissorshands", "uniform", "", "what keeps getting attention"},
    {"tova", "tova", "uniform", "", "what the last token attends to"},
    {"keydiff", "keydiff", "uniform", "", "keys unlike the others"},
    {"lagkv", "lagkv", "uniform", "", "what the tokens after it do not hold"},
    {"expectedattention", "expected_attention", "uniform", "", "what queries to come are expected to want"},
    {"compactor", "compactor", "uniform", "", "non-causal attention and key leverage"},
    {"kvzip", "kvzip", "adaptive", "alpha=0", "what is needed to repeat the context; slow, reads it twice"},
    {"random", "random", "uniform", "", "the baseline"},
};

const ScorerEntry* find_scorer(const std::string& name) {
  for (const ScorerEntry* e : kScorers) {
    if (name == e->name) return e;
  }
  return nullptr;
}

const AllocationEntry* find_allocation(const std::string& name) {
  for (const AllocationEntry* e : kAllocations) {
    if (name == e->name) return e;
  }
  return nullptr;
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
      return Error{ErrorCode::bad_argument, "there is no scorer '" + scorer + "' for " + p.name};
    }
    CURDKV_TRY(const auto nested, expand(entry->params(), given, p.name + "."));
    all.insert(all.end(), nested.begin(), nested.end());
  }
  return all;
}

struct Recipe {
  const ScorerEntry* scorer = nullptr;
  const AllocationEntry* allocation = nullptr;
  std::map<std::string, std::string> preset;  // the preset's own settings

  Result<std::vector<PressParam>> params(const std::map<std::string, std::string>& given) const {
    std::map<std::string, std::string> known = preset;
    for (const auto& entry : given) known[entry.first] = entry.second;
    CURDKV_TRY(std::vector<PressParam> all, expand(scorer->params(), known, ""));
    for (PressParam& p : allocation->params()) all.push_back(std::move(p));
    for (PressParam& p : all) {
      if (const auto own = preset.find(p.name); own != preset.end()) p.default_value = own->second;
    }
    return all;
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

Recipe recipe_of(const PresetEntry& preset) {
  Recipe r = {find_scorer(preset.scorer), find_allocation(preset.allocation), {}};
  [[maybe_unused]] const auto read = read_settings(preset.params, preset.name, r.preset);
  return r;
}

// A preset's recipe, or SCORER+ALLOCATION.
Result<Recipe> resolve(const std::string& name) {
  for (const PresetEntry& p : kPresets) {
    if (name == p.name) return recipe_of(p);
  }
  if (const size_t plus = name.find('+'); plus != std::string::npos) {
    const Recipe r = {find_scorer(name.substr(0, plus)), find_allocation(name.substr(plus + 1)), {}};
    if (r.scorer != nullptr && r.allocation != nullptr) return r;
  }
  std::string all = "none";
  for (const PresetEntry& p : kPresets) all += std::string(", ") + p.name;
  return Error{ErrorCode::bad_argument, "there is no press '" + name + "' (there are: " + all +
                                            "; or SCORER+ALLOCATION, see 'curdkv presses')"};
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
  std::vector<PressInfo> list = {{"none", "", "", "", "the full cache", "", {}}};
  for (const PresetEntry& p : kPresets) {
    const Recipe r = recipe_of(p);
    list.push_back({p.name, p.scorer, p.allocation, p.params, p.summary, r.scorer->reference, *r.params({})});
  }
  for (const ScorerEntry* s : kScorers) {
    list.push_back({s->name, s->name, "", "", s->summary, s->reference, *expand(s->params(), {}, "")});
  }
  for (const AllocationEntry* a : kAllocations) {
    list.push_back({a->name, "", a->name, "", a->summary, a->reference, a->params()});
  }
  return list;
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
    if (request.protect_last < 0) {
      return Error{ErrorCode::bad_argument, "the number of protected tokens cannot be negative"};
    }
    Press press;
    press.name_ = press.spec_ = request.name;
    for (const auto& [name, text] : request.params) press.spec_ += ":" + name + "=" + text;
    press.compression_ratio_ = request.compression_ratio;
    press.budget_ = request.budget;
    press.protect_last_ = request.protect_last;
    press.seed_ = request.seed;
    if (request.name == "none") {
      CURDKV_TRY([[maybe_unused]] const auto unused, ParamValues::parse({}, request.params, "none"));
      press.compression_ratio_ = 0;
      press.budget_.reset();
      return press;
    }
    CURDKV_TRY(const Recipe recipe, resolve(request.name));
    CURDKV_TRY(const std::vector<PressParam> table, recipe.params(request.params));
    CURDKV_TRY(const auto values, ParamValues::parse(table, request.params, request.name));
    press.settings_ = values.texts();
    auto scoring = press.settings_;
    for (const PressParam& p : recipe.allocation->params()) scoring.erase(p.name);
    press.scoring_ = recipe.scorer->name + format(" %llu", (unsigned long long)request.seed);
    for (const auto& [name, text] : scoring) press.scoring_ += ":" + name + "=" + text;
    press.scorer_ = recipe.scorer->make(values);
    press.allocation_ = recipe.allocation->make(values);
    return press;
  });
}

}  // namespace curdkv
