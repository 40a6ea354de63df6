// The numbers of a decoder, read from GGUF metadata and checked: the keys that libllama reads for these
// architectures (so neither attention.scale nor attention.sliding_window nor YaRN's own), to the same effect.
// What this engine cannot run (MoE, encoders, layers without attention) is refused here, by name. What
// differs from layer to layer is a LayerShape's.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "curdkv/result.h"
#include "model/gguf_file.h"

namespace curdkv {

enum class RopePairing { interleaved, neox };  // dims (2i, 2i+1) or (i, i + n_rot/2) rotate together

// How a family rotates its heads.
struct FamilyRope {
  RopePairing pairing;
  bool whole_heads = false;  // nothing else will do
};

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

// What one layer is made of.
struct LayerShape {
  int64_t n_head = 0;
  int64_t n_head_kv = 0;
  int64_t d_head_k = 0;
  int64_t d_head_v = 0;
  int64_t n_ff = 0;
  float kq_scale = 0;  // multiplies Q K^T

  int64_t n_group() const { return n_head / n_head_kv; }  // query heads a KV head serves
  bool same_heads(const LayerShape& o) const {
    return n_head == o.n_head && n_head_kv == o.n_head_kv && d_head_k == o.d_head_k && d_head_v == o.d_head_v;
  }
};

struct HParams {
  std::string architecture;
  int64_t n_layer = 0;
  int64_t n_embd = 0;
  int64_t n_vocab = 0;
  int64_t n_ctx_train = 0;
  float rms_eps = 0;
  RopeParams rope;
  std::vector<LayerShape> layers;  // n_layer

  const LayerShape& layer(int64_t il) const { return layers[static_cast<size_t>(il)]; }
  LayerShape largest() const;  // of every size the most that a layer has
};

// What all families read alike; a family checks what is its own. Counts of heads and n_ff may be one number
// or one for each layer. Errors, naming the key: corrupt if it is missing or out of range,
// unsupported for what cannot be run.
Result<HParams> read_hparams(const GgufFile& file, const FamilyRope& rope);

}  // namespace curdkv
