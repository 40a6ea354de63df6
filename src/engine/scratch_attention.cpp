#include "engine/scratch_attention.h"

#include "attention/prefill_attention.h"
#include "base/try.h"
#include "engine/hidden_states.h"

namespace curdkv {

bool ScratchAttention::takes_kernel(int64_t il) const {
  const LayerShape& shape = e_->m().hp.layer(il);
  return e_->params.prefill_kernel != PrefillKernel::ggml && !e_->params.portable_attention &&
         e_->on_cpu(il) && prefill_attention_takes(shape.d_head_k, shape.d_head_v);
}

Result<ScratchAttention> ScratchAttention::create(Executor::Impl& executor, int64_t width, int64_t n_chunk) {
  ScratchAttention a(executor);
  a.mask_ = {width, n_chunk};
  for (int64_t il = 0; il < executor.m().hp.n_layer; ++il) {
    if (a.takes_kernel(il)) continue;
    const ggml_backend_dev_t device = executor.device(il);
    MaskData& m = a.masks_[device];
    if (m.tensor != nullptr) continue;
    m.context = make_ggml_context(1);
    m.tensor = ggml_new_tensor_1d(m.context.get(), GGML_TYPE_F16, a.mask_.n_elements());
    CURDKV_TRY(m.memory, TensorMemory::allocate(m.context.get(), device, "the attention mask"));
    a.mask_.write(m.tensor);
  }
  return a;
}

ggml_tensor* ScratchAttention::attend(int64_t il, const LayerKv& kv, const Projections& p, int64_t row,
                                      int64_t n_front) {
  const int64_t n = p.q->ne[2];
  ggml_context* ctx = e_->compute->context();
  const auto store = [&](ggml_tensor* all, ggml_tensor* fresh) {
    const auto from = [&](ggml_tensor* x, int64_t first) {
      return ggml_view_3d(ctx, x, x->ne[0], x->ne[1], n - n_front, x->nb[1], x->nb[2],
                          static_cast<size_t>(first) * x->nb[2]);
    };
    ggml_build_forward_expand(e_->compute->graph(), ggml_cpy(ctx, n_front == 0 ? fresh : from(fresh, n_front),
                                                             from(all, row + n_front)));
  };
  store(kv.k, p.k);
  store(kv.v, p.v);
  if (takes_kernel(il)) {
    const auto seen = [&](ggml_tensor* all) {  // [d, row + n, n_head_kv]
      return ggml_view_3d(ctx, all, all->ne[0], row + n, all->ne[1], all->nb[2], all->nb[1], 0);
    };
    return prefill_attention_cpu(*e_->compute, p.q, seen(kv.k), seen(kv.v), e_->m().hp.layer(il).kq_scale,
                                 kv.first, e_->tiles);
  }
  // An operation for each run of heads whose rows begin alike.
  const int64_t n_head_kv = kv.k->ne[1];
  const auto first_of = [&](int64_t h) { return kv.first.empty() ? 0 : kv.first[static_cast<size_t>(h)]; };
  ggml_tensor* out = nullptr;
  for (int64_t h = 0, end; h < n_head_kv; h = end) {
    for (end = h + 1; end < n_head_kv && first_of(end) == first_of(h);) ++end;
    ggml_tensor* part = attend_heads(il, kv, p.q, row, first_of(h), h, end - h);
    out = out == nullptr ? part : ggml_concat(ctx, out, part, 1);
  }
  return ggml_reshape_2d(ctx, out, out->ne[0] * out->ne[1], n);
}

// F32 [d_head_v, query heads, n] of n_heads KV heads from `head` on, whose first row is `first`.
ggml_tensor* ScratchAttention::attend_heads(int64_t il, const LayerKv& kv, ggml_tensor* q, int64_t row,
                                            int64_t first, int64_t head, int64_t n_heads) {
  const int64_t n = q->ne[2], n_group = q->ne[1] / kv.k->ne[1];
  ggml_context* ctx = e_->compute->context();
  const auto seen = [&](ggml_tensor* all) {  // [d, row + n - first, n_heads]
    return ggml_view_3d(ctx, all, all->ne[0], row + n - first, n_heads, all->nb[2], all->nb[1],
                        static_cast<size_t>(first) * all->nb[2] + static_cast<size_t>(head) * all->nb[1]);
  };
  q = ggml_view_3d(ctx, q, q->ne[0], n_heads * n_group, n, q->nb[1], q->nb[2],
                   static_cast<size_t>(head * n_group) * q->nb[1]);
  ggml_tensor* mask = masks_.at(e_->device(il)).tensor;
  mask = e_->on_cpu(il) ? mask_.view(ctx, mask, row - first) : mask_.copy(ctx, mask, row - first, n);
  ggml_tensor* out = ggml_flash_attn_ext(ctx, ggml_permute(ctx, q, 0, 2, 1, 3), seen(kv.k), seen(kv.v), mask,
                                         e_->m().hp.layer(il).kq_scale, 0.0f, 0.0f);
  ggml_prec_set_acc(out, GGML_PREC_F32);
  return out;
}

}  // namespace curdkv
