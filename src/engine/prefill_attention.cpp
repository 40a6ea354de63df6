#include "engine/prefill_attention.h"

#include <new>

#include "base/tickets.h"
#include "engine/prefill_kernel.h"

namespace curdkv {
namespace {

constexpr int64_t kRowsEnough = 384;  // queries of a tile, all heads together

struct Attention {
  float scale;
  Tickets tiles = {};
};

// src: q, k, v. Tiles of the last tokens, which see most keys, come first.
void attend_tiles(ggml_tensor* dst, int, int nth, void* userdata) {
  auto& state = *static_cast<Attention*>(userdata);
  const ggml_tensor *q = dst->src[0], *k = dst->src[1], *v = dst->src[2];
  const int64_t n_head_kv = k->ne[2], n_group = q->ne[1] / n_head_kv, d_v = v->ne[0];
  // Larger tiles read keys and values less often; smaller ones keep more threads busy.
  int64_t tile = kTileUnit;
  while (n_group * tile < kRowsEnough && q->ne[2] % (2 * tile) == 0 &&
         q->ne[2] / (2 * tile) * n_head_kv >= 4 * nth) {
    tile *= 2;
  }
  const int64_t n_units = q->ne[2] / tile * n_head_kv;
  constexpr std::align_val_t kAligned{64};
  const size_t n_floats = prefill_scratch_floats(tile, n_group, k->ne[0], d_v);
  auto* scratch = static_cast<float*>(::operator new(n_floats * sizeof(float), kAligned));
  for (int64_t i; (i = state.tiles.draw(n_units, nth)) >= 0;) {
    const int64_t unit = n_units - 1 - i, token = unit / n_head_kv * tile;
    const auto h = static_cast<size_t>(unit % n_head_kv), t = static_cast<size_t>(token);
    attend_tile(
        {.q = static_cast<const char*>(q->data) + h * static_cast<size_t>(n_group) * q->nb[1] + t * q->nb[2],
         .n_tokens = tile,
         .q_head_stride = q->nb[1],
         .q_token_stride = q->nb[2],
         .k = static_cast<const char*>(k->data) + h * k->nb[2],
         .v = static_cast<const char*>(v->data) + h * v->nb[2],
         .k_stride = k->nb[1],
         .v_stride = v->nb[1],
         .type_k = k->type,
         .type_v = v->type,
         .out = static_cast<float*>(dst->data) + token * dst->ne[0] + unit % n_head_kv * n_group * d_v,
         .out_token_stride = static_cast<size_t>(dst->ne[0]),
         .first = k->ne[1] - q->ne[2] + token,
         .n_group = n_group,
         .d_k = k->ne[0],
         .d_v = d_v,
         .scale = state.scale},
        scratch);
  }
  ::operator delete(scratch, kAligned);
}

}  // namespace

bool prefill_attention_takes(int64_t d_k, int64_t d_v) {
  return d_k % 8 == 0 && d_v % 8 == 0;
}

ggml_tensor* prefill_attention_cpu(Compute& compute, ggml_context* ctx, ggml_tensor* q, ggml_tensor* k,
                                   ggml_tensor* v, float scale) {
  ggml_tensor* args[] = {q, k, v};
  return ggml_custom_4d(ctx, GGML_TYPE_F32, v->ne[0] * q->ne[1], q->ne[2], 1, 1, args, 3, attend_tiles,
                        GGML_N_TASKS_MAX, compute.keep<Attention>(scale));
}

}  // namespace curdkv
