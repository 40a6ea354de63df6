// Owners of ggml's objects, by ggml's own smart pointers, and contexts that hold descriptions only.
#pragma once

#include <ggml-cpp.h>

namespace curdkv {

using GgmlContext = ggml_context_ptr;
using GgmlBuffer = ggml_backend_buffer_ptr;
using GgmlBackend = ggml_backend_ptr;
using GgmlSched = ggml_backend_sched_ptr;

// Room to describe n_tensors tensors, no data; null when memory is out.
inline GgmlContext make_ggml_context(size_t n_tensors) {
  return GgmlContext(ggml_init({n_tensors * ggml_tensor_overhead(), nullptr, true}));
}

}  // namespace curdkv
