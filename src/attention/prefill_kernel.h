// The inner loops of a prefill's attention on the CPU: a tile of queries against all keys that they see.
// Vectorised by Highway, the instruction set chosen at run time.
#pragma once

#include <ggml.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace curdkv {

struct Bf16Tiles;

inline constexpr int64_t kTileUnit = 32;  // tokens of a tile are a multiple of this

struct PrefillTile {
  const char* q;     // F32 rows of d_k: the tile's first token, the group's first query head
  int64_t n_tokens;  // consecutive, each with all query heads of one KV head
  size_t q_head_stride, q_token_stride;  // bytes
  const char* k;                         // type_k rows of d_k, the KV head's, token 0 first
  const char* v;                         // type_v rows of d_v
  size_t k_stride, v_stride;             // bytes between tokens
  ggml_type type_k, type_v;              // F16 or F32
  float* out;                            // F32 rows of d_v, those of a token's query heads in turn
  size_t out_token_stride;               // floats
  int64_t first;              // the first query's token: it sees keys [0, first], the next one more, ...
  int64_t n_group, d_k, d_v;  // query heads per KV head; dimensions, multiples of 8
  float scale;                // of Q K^T
  const Bf16Tiles* tiles;     // for whole blocks of an F16 cache, where vectors are those of AVX-512; or null
};

// What serves on this processor: "F32, AVX2".
std::string prefill_kernel_name();

size_t prefill_scratch_floats(int64_t n_tokens, int64_t n_group, int64_t d_k, int64_t d_v);

// scratch: prefill_scratch_floats() floats, aligned to 64 bytes.
void attend_tile(const PrefillTile& tile, float* scratch);

}  // namespace curdkv
