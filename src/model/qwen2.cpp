// Qwen 2 and 2.5: biases on queries, keys and values (optional members of the common table), NEOX RoPE.
#include "model/layer_blocks.h"

namespace curdkv {
namespace {

Result<HParams> read(const GgufFile& file) {
  return read_hparams(file, {.pairing = RopePairing::neox});
}

}  // namespace

const Architecture kQwen2 = {"qwen2", "Qwen 2 and 2.5", read, kPlainTensors, build_plain_layer};

}  // namespace curdkv
