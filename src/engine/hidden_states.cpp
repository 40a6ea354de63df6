#include "engine/hidden_states.h"

#include <algorithm>

#include "base/try.h"

namespace curdkv {

Result<HiddenStates> HiddenStates::start(Executor::Impl& executor, std::span<const Token> tokens,
                                         int64_t n_padded, int64_t n_chunk, int64_t first_position,
                                         const char* what) {
  HiddenStates r(executor, what);
  CURDKV_CHECK(r.allocate_hidden(executor.device(0), n_padded));
  CURDKV_CHECK(r.allocate_inputs(tokens, first_position));
  CURDKV_CHECK(r.embed(n_chunk));
  return r;
}

Result<void> HiddenStates::move_to_layer(int64_t il) {
  ggml_backend_dev_t device = e_->device(il);
  return device == device_ ? Result<void>() : allocate_hidden(device, n_padded());
}

Result<void> HiddenStates::allocate_hidden(ggml_backend_dev_t device, int64_t n_padded) {
  GgmlContext context = make_ggml_context(1);
  ggml_tensor* hidden = ggml_new_tensor_2d(context.get(), GGML_TYPE_F32, e_->m().hp.n_embd, n_padded);
  ggml_set_name(hidden, "hidden");
  CURDKV_TRY(TensorMemory memory, TensorMemory::allocate(context.get(), device, what_));
  if (hidden_ != nullptr) ggml_backend_tensor_copy(hidden_, hidden);
  hidden_ = hidden;
  device_ = device;
  hidden_context_ = std::move(context);
  hidden_memory_ = std::move(memory);
  return {};
}

Result<void> HiddenStates::allocate_inputs(std::span<const Token> tokens, int64_t first_position) {
  input_context_ = make_ggml_context(2);
  ids_ = ggml_new_tensor_1d(input_context_.get(), GGML_TYPE_I32, n_padded());
  positions_ = ggml_new_tensor_1d(input_context_.get(), GGML_TYPE_I32, n_padded());
  CURDKV_TRY(input_memory_,
             TensorMemory::allocate(input_context_.get(),
                                    ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU), what_));
  std::vector<int32_t> ids(tokens.begin(), tokens.end()), positions;
  ids.resize(static_cast<size_t>(n_padded()), 0);
  for (int64_t t = 0; t < n_padded(); ++t) positions.push_back(static_cast<int32_t>(first_position + t));
  Compute::set(ids_, ids);
  Compute::set(positions_, positions);
  return {};
}

Result<void> HiddenStates::embed(int64_t n_chunk) {
  for (int64_t first = 0; first < n_padded(); first += n_chunk) {
    const int64_t n = std::min(n_chunk, n_padded() - first);
    CURDKV_TRY(ggml_context * ctx, e_->compute->begin());
    ggml_tensor* ids = ggml_view_1d(ctx, ids_, n, static_cast<size_t>(first) * sizeof(int32_t));
    ggml_tensor* rows = ggml_get_rows(ctx, e_->m().weights.token_embd, ids);
    ggml_build_forward_expand(e_->compute->graph(), ggml_cpy(ctx, rows, hidden(ctx, first, n)));
    CURDKV_CHECK(e_->compute->allocate());
    CURDKV_CHECK(e_->compute->run());
  }
  return {};
}

ggml_tensor* HiddenStates::hidden(ggml_context* ctx, int64_t first, int64_t n) const {
  return view_rows(ctx, hidden_, first, n);
}

ggml_tensor* HiddenStates::positions(ggml_context* ctx, int64_t first, int64_t n) const {
  return ggml_view_1d(ctx, positions_, n, static_cast<size_t>(first) * sizeof(int32_t));
}

}  // namespace curdkv
