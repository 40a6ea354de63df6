#include "analysis/layer_rows.h"

#include "base/try.h"
#include "press/layer_ops.h"

namespace curdkv::analysis {

Result<LayerRows> LayerRows::of(LayerView& layer) {
  LayerRows rows;
  rows.n_tokens = layer.n_tokens;
  rows.n_head = layer.n_head();
  rows.n_head_kv = layer.n_head_kv;
  rows.d_k = layer.d_head_k;
  rows.d_v = layer.d_head_v;
  CURDKV_TRY(auto parts, layer.run([&](ScoreGraph& g) {
    const int64_t n = layer.n_tokens;
    return std::vector<ggml_tensor*>{as_f32(g, layer.queries(g, 0, n)), as_f32(g, layer.keys(g, 0, n)),
                                     as_f32(g, layer.values(g, 0, n))};
  }));
  rows.q = std::move(parts[0]);
  rows.k = std::move(parts[1]);
  rows.v = std::move(parts[2]);
  for (float& x : rows.q) x *= layer.kq_scale;
  return rows;
}

}  // namespace curdkv::analysis
