// Shapes of models whose attention is measured by itself.
#pragma once

#include <cstdint>

namespace curdkv::measure {

struct Shape {
  const char* name;
  int64_t n_layer, n_head_kv, n_group, d;
};
inline constexpr Shape kShapes[] = {{"SmolLM2-135M", 30, 3, 3, 64}, {"Qwen2.5-0.5B", 24, 2, 7, 64}};

}  // namespace curdkv::measure
