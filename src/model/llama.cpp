// Llama 2 and 3.x, Mistral, SmolLM. Keys and queries are stored permuted for interleaved RoPE; Llama 3.x
// brings rope_freqs.weight, which the RoPE of every layer divides its frequencies by.
#include "model/layer_blocks.h"

namespace curdkv {
namespace {

Result<HParams> read(const GgufFile& file) {
  return read_hparams(file, {.pairing = RopePairing::interleaved, .whole_heads = true});
}

}  // namespace

const Architecture kLlama = {"llama", "Llama 2 and 3.x, Mistral, SmolLM", read, kPlainTensors,
                             build_plain_layer};

}  // namespace curdkv
