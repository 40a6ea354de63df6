#include "compute/products/question_products.h"

#include <algorithm>

#include "base/tickets.h"
#include "compute/products/int8_unpack.h"
#include "compute/products/tiles.h"

namespace curdkv {
namespace {

constexpr size_t kCacheBytes = 256 << 10;  // of unpacked weights that a thread has at a time

// src: tiles; dst: F32 [n_out, n]. Threads take some panels as they get done with the last.
struct UnpackAndMultiply {
  const ProductKernel& kernel;
  WeightMatrix w;
  int64_t n_at_once;  // panels
  Tickets runs = {};

  struct Memory {
    char *panels, *unpacking, *multiplying;
  };
  Memory lay_out(Scratch& scratch, int64_t n_tokens) const {
    char* panels = scratch.take<char>(n_at_once * static_cast<int64_t>(kernel.panel_bytes(w)));
    char* unpacking = scratch.take<char>(static_cast<int64_t>(kernel.unpack_scratch_bytes(w)));
    return {panels, unpacking,
            scratch.take<char>(static_cast<int64_t>(kernel.multiply_scratch_bytes(w, n_tokens)))};
  }

  void operator()(ggml_tensor* dst, const OpThread& thread) {
    Scratch scratch(thread.scratch);
    const Memory memory = lay_out(scratch, dst->ne[1]);
    const int64_t n_panels = w.n_out / kernel.panel_rows(), n_runs = (n_panels + n_at_once - 1) / n_at_once;
    for (int64_t run; (run = runs.draw(n_runs, thread.nth)) >= 0;) {
      const int64_t first = run * n_at_once, n = std::min(n_at_once, n_panels - first);
      for (int64_t p = 0; p < n; ++p) {
        kernel.unpack(w, first + p, memory.panels + static_cast<size_t>(p) * kernel.panel_bytes(w),
                      memory.unpacking);
      }
      kernel.multiply(w, memory.panels, n, static_cast<const char*>(dst->src[0]->data), dst->ne[1],
                      static_cast<float*>(dst->data) + first * kernel.panel_rows(),
                      dst->nb[1] / sizeof(float), memory.multiplying);
    }
  }
};

}  // namespace

ggml_tensor* QuestionProducts::multiply(ggml_context* ctx, ggml_tensor* w, ggml_tensor* x) {
  const WeightMatrix matrix = {w->type, static_cast<const char*>(w->data), w->ne[0], w->ne[1]};
  const bool here = w->buffer != nullptr && ggml_backend_buffer_is_host(w->buffer);
  if (kernel_ == nullptr || !here || !unpacks_exactly(w->type) || !kernel_->takes(matrix))
    return ggml_mul_mat(ctx, w, x);
  ggml_tensor*& tiles = packed_[x];
  if (tiles == nullptr) tiles = pack_tiles(compute_, *kernel_, x);
  const auto n_fit = static_cast<int64_t>(kCacheBytes / kernel_->panel_bytes(matrix));
  const UnpackAndMultiply op = {*kernel_, matrix, std::clamp<int64_t>(n_fit / 2 * 2, 2, 8)};
  Scratch measured;
  op.lay_out(measured, x->ne[1]);
  return compute_.custom<UnpackAndMultiply>(GGML_TYPE_F32, {w->ne[1], x->ne[1], 1, 1}, {&tiles, 1},
                                            measured.n_bytes(), op.kernel, op.w, op.n_at_once);
}

}  // namespace curdkv
