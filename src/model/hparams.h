// The numbers of a decoder, read from GGUF metadata and checked: the keys that libllama reads for these
// architectures (so neither attention.scale nor attention.sliding_window nor YaRN's own), to the same effect.
// What this engine cannot run (MoE, encoders, per-layer head counts) is refused here, by name.
#pragma once

#include <cstdint>
#include <string>

#include "curdkv/result.h"
#include "model/gguf_file.h"

namespace curdkv {

enum class RopePairing { interleaved, neox };  // dims (2i, 2i+1) or (i, i + n_rot/2) rotate together

struct RopeParams {
  RopePairing pairing = RopePairing::interleaved;
  int n_rot = 0;  // dimensions rotated
  float freq_base = 10000;
  float freq_scale = 1;  // 1 / scaling factor
  float ext_factor = 0;  // 1: YaRN, 0: none or linear
  float attn_factor = 1;
  float beta_fast = 32;
  float beta_slow = 1;
  int n_ctx_orig = 0;  // tokens
};

struct HParams {
  std::string architecture;
  int64_t n_layer = 0;
  int64_t n_embd = 0;
  int64_t n_head = 0;
  int64_t n_head_kv = 0;
  int64_t d_head_k = 0;
  int64_t d_head_v = 0;
  int64_t n_ff = 0;
  int64_t n_vocab = 0;
  int64_t n_ctx_train = 0;
  float rms_eps = 0;
  float kq_scale = 0;  // multiplies Q K^T
  RopeParams rope;

  int64_t n_group() const { return n_head / n_head_kv; }  // query heads a KV head serves
};

// Errors, naming the key: corrupt if it is missing or out of range, unsupported for what cannot be run.
Result<HParams> read_hparams(const GgufFile& file, RopePairing pairing);

}  // namespace curdkv
