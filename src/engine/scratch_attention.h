// Causal attention over one layer's scratch, the uncompressed keys and values that a prefill works on: on the
// CPU our own kernel, elsewhere, or when ggml's is asked for, one ggml_flash_attn_ext with a mask. The choice
// is made here.
#pragma once

#include <map>

#include "attention/ragged_attention.h"
#include "engine/executor_impl.h"

namespace curdkv {

class ScratchAttention {
 public:
  // For chunks of up to n_chunk tokens behind up to `width` rows. Errors: out_of_memory.
  static Result<ScratchAttention> create(Executor::Impl& executor, int64_t width, int64_t n_chunk);

  // Writes a chunk's keys and values to rows [row, row + n) of layer il's scratch, but for the first n_front,
  // and lets its queries see all rows from a head's first on, and the chunk's up to their own: F32
  // [d_head_v * n_head, n], in the graph at hand.
  ggml_tensor* attend(int64_t il, const LayerKv& kv, const Projections& p, int64_t row, int64_t n_front = 0);

 private:
  explicit ScratchAttention(Executor::Impl& executor) : e_(&executor) {}
  bool takes_kernel(int64_t il) const;
  ggml_tensor* attend_heads(int64_t il, const LayerKv& kv, ggml_tensor* q, int64_t row, int64_t first,
                            int64_t head, int64_t n_heads);

  Executor::Impl* e_;
  RaggedMask mask_ = {};
  struct MaskData {
    GgmlContext context;
    TensorMemory memory;
    ggml_tensor* tensor = nullptr;  // F16, see RaggedMask
  };
  std::map<ggml_backend_dev_t, MaskData> masks_;  // on every device with layers that need it
};

}  // namespace curdkv
