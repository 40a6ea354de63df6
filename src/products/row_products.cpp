#include "products/row_products.h"

#include <algorithm>

#include "base/tickets.h"
#include "products/row_kernel.h"

namespace curdkv {
namespace {

constexpr int64_t kRowsAtOnce = 64;  // that a thread takes; a multiple of what the kernel does at a time

// src[0]: F32 [n_in, 1]; dst: I8, its quantised form.
struct Quantise {
  void operator()(ggml_tensor* dst, const OpThread& thread) const {
    const ggml_tensor* x = dst->src[0];
    const int64_t n = x->ne[0] / 32, begin = n * thread.ith / thread.nth,
                  end = n * (thread.ith + 1) / thread.nth;
    quantise_input(static_cast<const float*>(x->data) + begin * 32, (end - begin) * 32,
                   static_cast<char*>(dst->data) + row_input_bytes(begin * 32));
  }
};

// src: quantised inputs, weights [n_in, n_out]; dst: F32 [n_out, 1].
struct MultiplyAllRows {
  Tickets runs = {};

  void operator()(ggml_tensor* dst, const OpThread& thread) {
    const ggml_tensor *inputs = dst->src[0], *w = dst->src[1];
    const int64_t n_out = w->ne[1], n_runs = (n_out + kRowsAtOnce - 1) / kRowsAtOnce;
    for (int64_t run; (run = runs.draw(n_runs, thread.nth)) >= 0;) {
      const int64_t r = run * kRowsAtOnce;
      multiply_rows(w->type, static_cast<const char*>(w->data) + static_cast<size_t>(r) * w->nb[1],
                    std::min(kRowsAtOnce, n_out - r), w->ne[0], static_cast<const char*>(inputs->data),
                    static_cast<float*>(dst->data) + r);
    }
  }
};

}  // namespace

ggml_tensor* RowProducts::multiply(ggml_context* ctx, ggml_tensor* w, ggml_tensor* x) {
  const bool here = w->buffer != nullptr && ggml_backend_buffer_is_host(w->buffer);
  if (!here || x->ne[1] != 1 || !row_kernel_takes(w->type, w->ne[0])) return ggml_mul_mat(ctx, w, x);
  ggml_tensor*& quantised = quantised_[x];
  if (quantised == nullptr) {
    quantised = compute_.custom<Quantise>(
        GGML_TYPE_I8, {static_cast<int64_t>(row_input_bytes(x->ne[0])), 1, 1, 1}, {&x, 1}, 0);
  }
  ggml_tensor* args[] = {quantised, w};
  return compute_.custom<MultiplyAllRows>(GGML_TYPE_F32, {w->ne[1], 1, 1, 1}, args, 0);
}

}  // namespace curdkv
