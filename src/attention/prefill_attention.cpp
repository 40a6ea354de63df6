#include "attention/prefill_attention.h"

#include "attention/prefill_kernel.h"
#include "base/tickets.h"

namespace curdkv {
namespace {

constexpr int64_t kRowsEnough = 384;  // queries of a tile, all heads together

// src: q, k, v. Tiles of the last tokens, which see most keys, come first.
struct AttendTiles {
  float scale;
  int64_t tile;                    // tokens
  std::vector<int64_t> first_key;  // per KV head; empty: 0
  const Bf16Tiles* registers;      // or null
  Tickets tiles = {};

  void operator()(ggml_tensor* dst, const OpThread& thread) {
    const ggml_tensor *q = dst->src[0], *k = dst->src[1], *v = dst->src[2];
    const int64_t n_head_kv = k->ne[2], n_group = q->ne[1] / n_head_kv, d_v = v->ne[0];
    const int64_t n_units = q->ne[2] / tile * n_head_kv;
    for (int64_t i; (i = tiles.draw(n_units, thread.nth)) >= 0;) {
      const int64_t unit = n_units - 1 - i, token = unit / n_head_kv * tile;
      const auto h = static_cast<size_t>(unit % n_head_kv), t = static_cast<size_t>(token);
      const int64_t first = first_key.empty() ? 0 : first_key[h];
      attend_tile(
          {.q =
               static_cast<const char*>(q->data) + h * static_cast<size_t>(n_group) * q->nb[1] + t * q->nb[2],
           .n_tokens = tile,
           .q_head_stride = q->nb[1],
           .q_token_stride = q->nb[2],
           .k = static_cast<const char*>(k->data) + h * k->nb[2] + static_cast<size_t>(first) * k->nb[1],
           .v = static_cast<const char*>(v->data) + h * v->nb[2] + static_cast<size_t>(first) * v->nb[1],
           .k_stride = k->nb[1],
           .v_stride = v->nb[1],
           .type_k = k->type,
           .type_v = v->type,
           .out = static_cast<float*>(dst->data) + token * dst->ne[0] + unit % n_head_kv * n_group * d_v,
           .out_token_stride = static_cast<size_t>(dst->ne[0]),
           .first = k->ne[1] - q->ne[2] + token - first,
           .n_group = n_group,
           .d_k = k->ne[0],
           .d_v = d_v,
           .scale = scale,
           .tiles = registers},
          reinterpret_cast<float*>(thread.scratch));
    }
  }
};

// Larger tiles read keys and values less often; smaller ones keep more threads busy.
int64_t tile_of(int64_t n_tokens, int64_t n_head_kv, int64_t n_group, int n_threads) {
  int64_t tile = kTileUnit;
  while (n_group * tile < kRowsEnough && n_tokens % (2 * tile) == 0 &&
         n_tokens / (2 * tile) * n_head_kv >= 4 * n_threads) {
    tile *= 2;
  }
  return tile;
}

}  // namespace

bool prefill_attention_takes(int64_t d_k, int64_t d_v) {
  return d_k % 8 == 0 && d_v % 8 == 0;
}

ggml_tensor* prefill_attention_cpu(Compute& compute, ggml_tensor* q, ggml_tensor* k, ggml_tensor* v,
                                   float scale, const std::vector<int64_t>& first, const Bf16Tiles* tiles) {
  ggml_tensor* args[] = {q, k, v};
  const int64_t n_head_kv = k->ne[2], n_group = q->ne[1] / n_head_kv;
  const int64_t tile = tile_of(q->ne[2], n_head_kv, n_group, compute.n_threads());
  const size_t scratch = prefill_scratch_floats(tile, n_group, k->ne[0], v->ne[0]) * sizeof(float);
  return compute.custom<AttendTiles>(GGML_TYPE_F32, {v->ne[0] * q->ne[1], q->ne[2], 1, 1}, args, scratch,
                                     scale, tile, first, tiles);
}

}  // namespace curdkv
