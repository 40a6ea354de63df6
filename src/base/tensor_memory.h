// Memory of tensors that goes back to the system when it is freed.
#pragma once

#include <ggml-backend.h>
#include <ggml.h>

#include <span>
#include <string>

#include "base/ggml_ptr.h"
#include "base/pages.h"
#include "curdkv/result.h"

namespace curdkv {

// On the CPU these are pages of their own: an allocator may keep what a program frees, depending on what else
// it allocated. Elsewhere a buffer of the device's.
class TensorMemory {
 public:
  TensorMemory() = default;

  // For all tensors of a context, none of which has any yet. Errors: out_of_memory, naming `what`.
  static Result<TensorMemory> allocate(ggml_context* ctx, ggml_backend_dev_t device, const std::string& what);

  // Memory that is somebody else's, and only read: tensor i of the context lies at where[i], ascending. It
  // has to lie as ggml's tensors do, and outlive this. Errors: internal if it does not lie so; out_of_memory.
  static Result<TensorMemory> over(ggml_context* ctx, std::span<const char* const> where);

  // Bytes allocated.
  size_t n_bytes() const { return buffer_ ? ggml_backend_buffer_get_size(buffer_.get()) : 0; }

 private:
  Pages pages_;        // the CPU's
  GgmlBuffer buffer_;  // over them
};

}  // namespace curdkv
