// Cache types by their names, and what ggml calls them.
#pragma once

#include <ggml.h>

#include "curdkv/sequence.h"

namespace curdkv {

ggml_type to_ggml(CacheType type);

}  // namespace curdkv
