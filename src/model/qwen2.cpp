// Qwen 2 and 2.5: biases on queries, keys and values (optional members of the common table), NEOX RoPE.
#include "model/architecture.h"

namespace curdkv {

const Architecture kQwen2 = {"qwen2", "Qwen 2 and 2.5", RopePairing::neox, {}, project_plain};

}  // namespace curdkv
