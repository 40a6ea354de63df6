#include "base/tensor_memory.h"

#include <ggml-alloc.h>

#include <cstdint>

#include "base/format.h"
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

Result<TensorMemory> TensorMemory::over(ggml_context* ctx, std::span<const char* const> where) {
  TensorMemory memory;
  const ggml_backend_buffer_type_t type = ggml_backend_cpu_buffer_type();
  const size_t alignment = ggml_backend_buft_get_alignment(type);
  const char* end = where.empty() ? nullptr : where.front();
  size_t i = 0;
  for (ggml_tensor* t = ggml_get_first_tensor(ctx); t != nullptr; t = ggml_get_next_tensor(ctx, t), ++i) {
    if (where[i] < end || reinterpret_cast<uintptr_t>(where[i]) % alignment != 0)
      return Error{ErrorCode::internal, format("tensor '%s' does not lie where it can be used", t->name)};
    end = where[i] + ggml_nbytes(t);
  }
  if (i == 0) return memory;
  auto* begin = const_cast<char*>(where.front());
  memory.buffer_.reset(ggml_backend_cpu_buffer_from_ptr(begin, static_cast<size_t>(end - begin)));
  if (!memory.buffer_) return Error{ErrorCode::out_of_memory, "not enough memory to use what is mapped"};
  i = 0;
  for (ggml_tensor* t = ggml_get_first_tensor(ctx); t != nullptr; t = ggml_get_next_tensor(ctx, t)) {
    if (ggml_backend_tensor_alloc(memory.buffer_.get(), t, const_cast<char*>(where[i++])) !=
        GGML_STATUS_SUCCESS) {
      return Error{ErrorCode::internal, format("tensor '%s' cannot be used where it lies", t->name)};
    }
  }
  return memory;
}

}  // namespace curdkv
