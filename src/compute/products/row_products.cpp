#include "compute/products/row_products.h"

#include <algorithm>

#include "base/tickets.h"
#include "compute/products/row_kernel.h"

namespace curdkv {
namespace {

constexpr int64_t kRowsAtOnce = 64;  // that a thread takes; a multiple of what the kernel does at a time

// src[0]: F32 [n_in, n]; dst: I8, its quantised form, column by column.
struct Quantise {
  const int64_t* n_columns;

  void operator()(ggml_tensor* dst, const OpThread& thread) const {
    const ggml_tensor* x = dst->src[0];
    const int64_t n = x->ne[0] / 32, begin = n * *n_columns * thread.ith / thread.nth,
                  end = n * *n_columns * (thread.ith + 1) / thread.nth;
    for (int64_t b = begin; b < end;) {
      const int64_t column = b / n, at = b % n, count = std::min(end - b, n - at);
      const char* from = static_cast<const char*>(x->data) + static_cast<size_t>(column) * x->nb[1];
      quantise_input(reinterpret_cast<const float*>(from) + at * 32, count * 32,
                     static_cast<char*>(dst->data) + row_input_bytes(b * 32));
      b += count;
    }
  }
};

// src: quantised inputs, weights [n_in, n_out]; dst: F32 [n_out, n].
struct MultiplyAllRows {
  const int64_t* n_columns;
  Tickets runs = {};

  void operator()(ggml_tensor* dst, const OpThread& thread) {
    const ggml_tensor *inputs = dst->src[0], *w = dst->src[1];
    const int64_t n_out = w->ne[1], n_runs = (n_out + kRowsAtOnce - 1) / kRowsAtOnce;
    for (int64_t run; (run = runs.draw(n_runs, thread.nth)) >= 0;) {
      const int64_t r = run * kRowsAtOnce;
      multiply_rows(w->type, static_cast<const char*>(w->data) + static_cast<size_t>(r) * w->nb[1],
                    std::min(kRowsAtOnce, n_out - r), w->ne[0], static_cast<const char*>(inputs->data),
                    *n_columns, static_cast<float*>(dst->data) + r, n_out);
    }
  }
};

}  // namespace

bool RowProducts::takes(const ggml_tensor* w) {
  const bool here = w->buffer != nullptr && ggml_backend_buffer_is_host(w->buffer);
  return here && row_kernel_takes(w->type, w->ne[0]);
}

ggml_tensor* RowProducts::multiply(ggml_context* ctx, ggml_tensor* w, ggml_tensor* x) {
  if (!takes(w)) return ggml_mul_mat(ctx, w, x);
  ggml_tensor*& quantised = quantised_[x];
  if (quantised == nullptr) {
    quantised = compute_.custom<Quantise>(
        GGML_TYPE_I8, {static_cast<int64_t>(row_input_bytes(x->ne[0])) * x->ne[1], 1, 1, 1}, {&x, 1}, 0,
        n_columns_);
  }
  ggml_tensor* args[] = {quantised, w};
  return compute_.custom<MultiplyAllRows>(GGML_TYPE_F32, {w->ne[1], x->ne[1], 1, 1}, args, 0, n_columns_);
}

}  // namespace curdkv
