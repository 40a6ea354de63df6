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

ggml_tensor* ScratchAttention::attend(int64_t il, const LayerKv& kv, const Projections& p, int64_t row) {
  const int64_t n = p.q->ne[2];
  const float scale = e_->m().hp.layer(il).kq_scale;
  ggml_context* ctx = e_->compute->context();
  const auto store = [&](ggml_tensor* all, ggml_tensor* fresh) {
    ggml_tensor* to = ggml_view_3d(ctx, all, all->ne[0], all->ne[1], n, all->nb[1], all->nb[2],
                                   static_cast<size_t>(row) * all->nb[2]);
    ggml_build_forward_expand(e_->compute->graph(), ggml_cpy(ctx, fresh, to));
  };
  const auto seen = [&](ggml_tensor* all) {  // [d, row + n, n_head_kv]
    return ggml_view_3d(ctx, all, all->ne[0], row + n, all->ne[1], all->nb[2], all->nb[1], 0);
  };
  store(kv.k, p.k);
  store(kv.v, p.v);
  if (takes_kernel(il)) return prefill_attention_cpu(*e_->compute, p.q, seen(kv.k), seen(kv.v), scale);
  ggml_tensor* mask = masks_.at(e_->device(il)).tensor;
  mask = e_->on_cpu(il) ? mask_.view(ctx, mask, row) : mask_.copy(ctx, mask, row, n);
  ggml_tensor* out = ggml_flash_attn_ext(ctx, ggml_permute(ctx, p.q, 0, 2, 1, 3), seen(kv.k), seen(kv.v),
                                         mask, scale, 0.0f, 0.0f);
  ggml_prec_set_acc(out, GGML_PREC_F32);
  return ggml_reshape_2d(ctx, out, out->ne[0] * out->ne[1], n);
}

}  // namespace curdkv
