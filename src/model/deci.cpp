// DeciLM: llama, but for layers that differ in their numbers of heads and in n_ff. Those without attention or
// without a feed-forward network, which some of its descendants have, are refused with their sizes.
#include "model/layer_blocks.h"

namespace curdkv {
namespace {

Result<HParams> read(const GgufFile& file) {
  return read_hparams(file, {.pairing = RopePairing::interleaved, .whole_heads = true});
}

}  // namespace

const Architecture kDeci = {"deci", "DeciLM", read, kPlainTensors, build_plain_layer};

}  // namespace curdkv
