// Someone who looks at every layer of a context between its reading and its compaction, when all keys, values
// and queries are there.
#pragma once

#include "engine/layer_scoring.h"

namespace curdkv {

class LayerObserver {
 public:
  virtual ~LayerObserver() = default;
  // What there has to be beyond keys and values, whatever the presses need.
  virtual ScorerNeeds needs() const = 0;
  // Called layer by layer in ascending order, on the thread that reads. An error ends the reading.
  virtual Result<void> observe(int64_t il, ModelLayerView& layer) = 0;
};

}  // namespace curdkv
