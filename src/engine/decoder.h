// The decoder's graph: a layer as the model's family builds it, and the logits behind the last.
#pragma once

#include <ggml.h>

#include "engine/logits.h"
#include "model/layer_blocks.h"
#include "model/model_impl.h"

namespace curdkv {

// Layer il over x, F32 [n_embd, n]. positions: I32 [n]. out_rows: I32, the rows wanted from here on, or null
// for all. Returns F32 [n_embd, n or rows].
ggml_tensor* build_layer(ggml_context* ctx, const Model::Impl& model, int64_t il, ggml_tensor* x,
                         ggml_tensor* positions, ggml_tensor* out_rows, const Attend& attend,
                         Products& products);

// Final norm and output matrix; read_logits() gives what they come to.
LogitsNodes build_logits(ggml_context* ctx, const Model::Impl& model, ggml_tensor* x, Products& products);

}  // namespace curdkv
