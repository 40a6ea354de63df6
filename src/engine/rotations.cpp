#include "engine/rotations.h"

#include "base/try.h"
#include "model/layer_blocks.h"

namespace curdkv {

// Rotating the first element of every pair from (1, 0) gives its (cos, sin).
Result<Rotations> Rotations::make(Compute& compute, const RopeParams& rope, ggml_tensor* rope_freqs,
                                  std::vector<int32_t> by, bool longer) {
  Rotations r;
  r.rope_ = rope;
  r.by_ = std::move(by);
  const int64_t n = std::ssize(r.by_), d = rope.n_rot;
  r.turned_.assign(static_cast<size_t>(d * n), 0.0f);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t p = 0; p < r.n_pairs(); ++p) r.turned_[static_cast<size_t>(i * d + r.first_of(p))] = 1.0f;
  }
  CURDKV_TRY(ggml_context * ctx, compute.begin());
  ggml_tensor* x = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, d, 1, n);
  ggml_tensor* turns = ggml_new_tensor_1d(ctx, GGML_TYPE_I32, n);
  for (ggml_tensor* t : {x, turns}) ggml_set_input(t);
  ggml_tensor* out = longer ? rotate(ctx, rope, rope_freqs, x, turns)
                            : rotate_keeping_length(ctx, rope, rope_freqs, x, turns, 1);
  ggml_set_output(out);
  ggml_build_forward_expand(compute.graph(), out);
  CURDKV_CHECK(compute.allocate());
  Compute::set(x, r.turned_);
  Compute::set(turns, r.by_);
  CURDKV_CHECK(compute.run());
  ggml_backend_tensor_get(out, r.turned_.data(), 0, ggml_nbytes(out));
  return r;
}

void Rotations::apply(int64_t i, float* row) const {
  const auto pairs = [&](int64_t step, int64_t apart) {
    const float *cos = turned(i), *sin = cos + apart;
    for (int64_t at = 0; at < step * n_pairs(); at += step) {
      const float x = row[at], y = row[at + apart];
      row[at] = x * cos[at] - y * sin[at];
      row[at + apart] = x * sin[at] + y * cos[at];
    }
  };
  halves() ? pairs(1, n_pairs()) : pairs(2, 1);
}

Result<const Rotations*> RotationCache::keeping_length(Compute& compute, const RopeParams& rope,
                                                       ggml_tensor* rope_freqs,
                                                       const std::vector<int32_t>& by) {
  if (!last_ || last_->by() != by) {
    CURDKV_TRY(Rotations made, Rotations::make(compute, rope, rope_freqs, by, false));
    last_ = std::move(made);
  }
  return &*last_;
}

}  // namespace curdkv
