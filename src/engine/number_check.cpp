#include "engine/number_check.h"

#include "engine/logits.h"

namespace curdkv {

void NumberCheck::look(ggml_tensor* dst, int ith, int, void* userdata) {
  auto& check = *static_cast<NumberCheck*>(userdata);
  const ggml_tensor* x = dst->src[0];
  if (ith > 0) return;
  const char* column = static_cast<const char*>(x->data) + static_cast<size_t>(check.column_) * x->nb[1];
  if (!all_numbers({reinterpret_cast<const float*>(column), static_cast<size_t>(x->ne[0])})) {
    check.failed_ = true;
  }
}

Multiply NumberCheck::watch(ggml_context* ctx, ggml_cgraph* graph, Multiply multiply) {
  return [this, ctx, graph, inner = std::move(multiply)](ggml_context* c, ggml_tensor* w, ggml_tensor* x) {
    if (x != last_) {
      ggml_build_forward_expand(graph, ggml_custom_4d(ctx, GGML_TYPE_F32, 1, 1, 1, 1, &x, 1, look, 1, this));
      last_ = x;
    }
    return inner(c, w, x);
  };
}

}  // namespace curdkv
