#include "compute/products/layer_products.h"

#include <algorithm>

#include "base/tickets.h"
#include "base/try.h"
#include "compute/products/tiles.h"

namespace curdkv {
namespace {

constexpr int64_t kPanelsAtOnce = 8;  // that a thread takes

// dst: nothing. Panels are dealt out to the threads one by one.
struct UnpackPanels {
  const UnpackedMatrix& u;

  void operator()(ggml_tensor*, const OpThread& thread) const {
    for (int64_t p = thread.ith; p < u.n_panels(); p += thread.nth)
      u.kernel->unpack(u.matrix, p, u.panel(p), thread.scratch);
  }
};

// src[0]: tiles; dst: F32 [n_out, n]. Threads take panels as they get done with the last.
struct MultiplyPanels {
  const UnpackedMatrix& u;
  Tickets runs = {};  // of kPanelsAtOnce panels

  void operator()(ggml_tensor* dst, const OpThread& thread) {
    const int64_t n_runs = (u.n_panels() + kPanelsAtOnce - 1) / kPanelsAtOnce;
    for (int64_t run; (run = runs.draw(n_runs, thread.nth)) >= 0;) {
      const int64_t p = run * kPanelsAtOnce;
      u.kernel->multiply(u.matrix, u.panel(p), std::min(kPanelsAtOnce, u.n_panels() - p),
                         static_cast<const char*>(dst->src[0]->data), dst->ne[1],
                         static_cast<float*>(dst->data) + p * u.kernel->panel_rows(),
                         dst->nb[1] / sizeof(float), thread.scratch);
    }
  }
};

}  // namespace

Result<void> LayerProducts::reserve(size_t n_bytes) {
  if (n_bytes <= scratch_bytes_) return {};
  scratch_.reset();
  scratch_bytes_ = 0;
  scratch_.reset(static_cast<char*>(::operator new(n_bytes, std::align_val_t(64), std::nothrow)));
  if (!scratch_) return Error{ErrorCode::out_of_memory, "not enough memory for one layer's unpacked weights"};
  scratch_bytes_ = n_bytes;
  return {};
}

Result<void> LayerProducts::load(int64_t il) {
  weights_.clear();
  const ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
  if (kernels_.empty() || model_.weights.layer_device[static_cast<size_t>(il)] != cpu) return {};
  const auto n_bytes = [](const UnpackedMatrix& u) {
    return static_cast<size_t>(u.n_panels()) * u.kernel->panel_bytes(u.matrix);
  };
  size_t total = 0;
  for (const ggml_tensor* t : model_.matrices(il)) {
    const WeightMatrix m = {t->type, stored(t), t->ne[0], t->ne[1]};
    if (m.data == nullptr) continue;
    const ProductKernel* kernel = kernel_for(m);
    if (kernel == nullptr) continue;
    total += n_bytes(weights_.emplace(t, UnpackedMatrix{kernel, m, nullptr}).first->second);
  }
  if (weights_.empty()) return {};
  CURDKV_CHECK(reserve(total));
  CURDKV_TRY([[maybe_unused]] ggml_context * ctx, compute_.begin());
  char* at = scratch_.get();
  for (auto& [tensor, u] : weights_) {
    u.panels = at;
    at += n_bytes(u);
    ggml_build_forward_expand(compute_.graph(),
                              compute_.custom<UnpackPanels>(GGML_TYPE_F32, {1, 1, 1, 1}, {},
                                                            u.kernel->unpack_scratch_bytes(u.matrix), u));
  }
  CURDKV_CHECK(compute_.allocate());
  CURDKV_CHECK(compute_.run());
  // Where ggml has a repacked copy, the file's pages were looked at for this alone.
  for (const auto& [tensor, u] : weights_) {
    if (ggml_backend_buffer_is_host(tensor->buffer)) continue;
    const GgufTensor& stored = *model_.file.find(tensor->name);
    model_.file.bytes().give_back(stored.offset, stored.n_bytes);
  }
  return {};
}

// A matrix as it is in the file: ggml may have repacked its own copy. Null if that is the only one.
const char* LayerProducts::stored(const ggml_tensor* t) const {
  if (ggml_backend_buffer_is_host(t->buffer)) return static_cast<const char*>(t->data);
  const char* file = model_.file.bytes().data();
  return file == nullptr ? nullptr : file + model_.file.find(t->name)->offset;
}

const ProductKernel* LayerProducts::kernel_for(const WeightMatrix& w) const {
  const auto found =
      std::find_if(kernels_.begin(), kernels_.end(), [&](const auto& k) { return k->takes(w); });
  return found == kernels_.end() ? nullptr : found->get();
}

ggml_tensor* LayerProducts::packed(Packed& all, const ProductKernel* kernel, ggml_tensor* x) {
  ggml_tensor*& tiles = all[{kernel, x}];
  if (tiles == nullptr) tiles = pack_tiles(compute_, *kernel, x);
  return tiles;
}

ggml_tensor* LayerProducts::multiply(Packed& all, ggml_context* ctx, ggml_tensor* w, ggml_tensor* x) {
  const auto found = weights_.find(w);
  if (found == weights_.end()) return ggml_mul_mat(ctx, w, x);
  ggml_tensor* tiles = packed(all, found->second.kernel, x);
  const UnpackedMatrix& u = found->second;
  const size_t scratch = u.kernel->multiply_scratch_bytes(u.matrix, x->ne[1]);
  return compute_.custom<MultiplyPanels>(GGML_TYPE_F32, {w->ne[1], x->ne[1], 1, 1}, {&tiles, 1}, scratch, u);
}

}  // namespace curdkv
