// Every scorer, selection and layer budget, one line each.
#pragma once

#include "press/entry.h"

// Adding one: its file, and its name here.
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
  X(dropkv)               \
  X(expected_attention)   \
  X(noncausal_attention)  \
  X(reference_attention)  \
  X(compactor)            \
  X(capkv)                \
  X(criticalkv)           \
  X(mix)                  \
  X(kvzip)                \
  X(kvzip_plus)           \
  X(streaming_llm)        \
  X(random)

#define CURDKV_SELECTIONS(X) \
  X(uniform)                 \
  X(adaptive)                \
  X(chunk)

namespace curdkv {

#define CURDKV_DECLARE(name) extern const ScorerEntry name##_scorer;
CURDKV_SCORERS(CURDKV_DECLARE)
#undef CURDKV_DECLARE
#define CURDKV_DECLARE(name) extern const SelectionEntry name##_selection;
CURDKV_SELECTIONS(CURDKV_DECLARE)
#undef CURDKV_DECLARE
extern const LayerBudgetEntry pyramid_layer_budget;
extern const LayerBudgetEntry bytes_layer_budget;

#define CURDKV_POINTER(name) &name##_scorer,
inline constexpr const ScorerEntry* kScorers[] = {CURDKV_SCORERS(CURDKV_POINTER)};
#undef CURDKV_POINTER
#define CURDKV_POINTER(name) &name##_selection,
inline constexpr const SelectionEntry* kSelections[] = {CURDKV_SELECTIONS(CURDKV_POINTER)};
#undef CURDKV_POINTER
inline constexpr const LayerBudgetEntry* kLayerBudgets[] = {&pyramid_layer_budget, &bytes_layer_budget};

#undef CURDKV_SCORERS
#undef CURDKV_SELECTIONS

}  // namespace curdkv
