// The inner loops of attention within a chunk of tokens on the CPU, each token attending to all of them, of
// which only the columns' sums are wanted. Vectorised by Highway, the instruction set chosen at run time.
#pragma once

#include <ggml.h>

#include <cstddef>
#include <cstdint>

namespace curdkv {

struct AttentionChunk {
  const char* q;  // type_q rows of d: the first token, the first query head of one KV head
  const char* k;  // type_k rows of d: the first token, the KV head's
  size_t q_head_stride, q_token_stride, k_stride;  // bytes
  ggml_type type_q, type_k;                        // F16 or F32
  int64_t n_tokens, n_group, d;
  int64_t n_zeros;  // rows of zeros that are thought of behind keys and queries
  float scale;      // of Q K^T
  float* out;       // of the first query head: what each token got, from all of them
  int64_t out_head_stride;
};

// Bytes of scratch that a chunk of so many tokens takes.
size_t chunk_scratch_bytes(int64_t n_tokens, int64_t n_group, int64_t d);

// scratch: chunk_scratch_bytes(), aligned for Scratch.
void attend_chunk(const AttentionChunk& chunk, char* scratch);

}  // namespace curdkv
