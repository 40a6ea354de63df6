#include "base/tensor_memory.h"

#include <ggml-alloc.h>

#include "base/try.h"

namespace curdkv {

Result<TensorMemory> TensorMemory::allocate(ggml_context* ctx, ggml_backend_dev_t device,
                                            const std::string& what) {
  const Error none_left = {ErrorCode::out_of_memory, "not enough memory for " + what};
  TensorMemory memory;
  const ggml_backend_buffer_type_t type = ggml_backend_dev_buffer_type(device);
  if (device != ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU)) {
    memory.buffer_.reset(ggml_backend_alloc_ctx_tensors_from_buft(ctx, type));
    return memory.buffer_ ? Result<TensorMemory>(std::move(memory)) : none_left;
  }
  const size_t n_bytes = ggml_backend_alloc_ctx_tensors_from_buft_size(ctx, type);
  CURDKV_TRY(memory.pages_, Pages::allocate(n_bytes, what));
  if (n_bytes == 0) return none_left;
  memory.buffer_.reset(ggml_backend_cpu_buffer_from_ptr(memory.pages_.data(), n_bytes));
  if (!memory.buffer_) return none_left;
  ggml_tallocr allocator = ggml_tallocr_new(memory.buffer_.get());
  for (ggml_tensor* t = ggml_get_first_tensor(ctx); t != nullptr; t = ggml_get_next_tensor(ctx, t)) {
    const ggml_status done =
        t->view_src == nullptr ? ggml_tallocr_alloc(&allocator, t) : ggml_backend_view_init(t);
    if (done != GGML_STATUS_SUCCESS) return none_left;
  }
  return memory;
}

}  // namespace curdkv
