// Llama 2 and 3.x, Mistral, SmolLM. Keys and queries are stored permuted for interleaved RoPE; Llama 3.x
// brings rope_freqs.weight, which the RoPE of every layer divides its frequencies by.
#include "model/architecture.h"

namespace curdkv {

const Architecture kLlama = {
    "llama", "Llama 2 and 3.x, Mistral, SmolLM", RopePairing::interleaved, {}, project_plain};

}  // namespace curdkv
