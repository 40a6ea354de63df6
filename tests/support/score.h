// Runs a press on given or random keys, values and queries, through the engine's own scoring and selection.
#pragma once

#include <ggml-cpu.h>

#include <random>

#include "cache/cache_type.h"
#include "engine/layer_scoring.h"
#include "engine/limits.h"
#include "press/scorer.h"
#include "support/must.h"

namespace curdkv::testing {

inline int64_t sinks_of(const Press& press) {
  return press.scorer()->n_sinks();
}

// A CPU-only Compute without a model.
inline std::unique_ptr<Compute> make_compute(int n_threads = 2) {
  ggml_cpu_init();
  Weights none;
  none.output_device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
  return must(Compute::create(none, n_threads, 4096, nullptr));
}

// One layer as [heads][n_tokens][d], fastest last, put where the prefill would put it.
struct LayerData {
  int64_t n_tokens, n_head_kv, n_group, d;
  ggml_type type;
  std::vector<float> keys, values, queries;  // after RoPE
  RopeParams rope;
  std::vector<float> wo = {};  // [d * n_head, n_embd]
  std::function<std::vector<float>(int64_t d, int64_t rank, int64_t n)> gaussian =
      {};  // instead of a seeded one
};

class TestLayer {
 public:
  explicit TestLayer(const LayerData& data, int n_threads = 2)
      : data_(data), compute_(make_compute(n_threads)) {
    const int64_t n_padded = round_up(data.n_tokens, kTileTokens), n_head = data.n_head_kv * data.n_group;
    kv_.context = make_ggml_context(8);
    ggml_context* ctx = kv_.context.get();
    kv_.k = ggml_new_tensor_3d(ctx, data.type, data.d, data.n_head_kv, n_padded);
    kv_.v = ggml_new_tensor_3d(ctx, data.type, data.d, data.n_head_kv, n_padded);
    kv_.q = ggml_new_tensor_3d(ctx, data.type, data.d, n_head, n_padded);
    wo_ = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, data.d * n_head, n_embd());
    ggml_cpu_init();
    const auto cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    kv_.memory = must(TensorMemory::allocate(ctx, cpu, "a layer"));
    fill(kv_.k, data.keys);
    fill(kv_.v, data.values);
    fill(kv_.q, data.queries);
    std::vector<float> wo = data.wo;
    wo.resize(static_cast<size_t>(ggml_nelements(wo_)), 0.25f);
    ggml_backend_tensor_set(wo_, wo.data(), 0, wo.size() * sizeof(float));
    const float kq_scale = 1 / std::sqrt(static_cast<float>(data.d));
    hp_.layers.assign(30, {n_head, data.n_head_kv, data.d, data.d, 0, kq_scale});
    hp_.rope = data.rope;
  }

  // From now on scores come from graphs of ggml's own operations.
  void without_fused_ops() { fused_ = false; }

  KeptTokens select(const Press& press, int64_t n_question = 0, int64_t il = 0, int64_t n_layer = 30) const {
    auto view = make_view(press, il);
    LayerScores scores(*view);
    return must(select_tokens(scores, press, n_question, il, n_layer));
  }
  // What the press's scorer says, [n_head_kv][n_tokens].
  std::vector<float> scores(const Press& press) const {
    auto view = make_view(press, 0);
    const ScoreRequest request = {press.n_kept(data_.n_tokens), press.removed(data_.n_tokens), press.seed()};
    return must(press.scorer()->score(*view, request)).data();
  }
  // What scorers see of it.
  std::unique_ptr<PrefilledLayer> view(const Press& press) const { return make_view(press, 0); }
  const LayerKv& kv() const { return kv_; }
  Compute& compute() const { return *compute_; }

 private:
  struct View : PrefilledLayer {
    using PrefilledLayer::PrefilledLayer;
    std::vector<float> gaussian(uint64_t seed, int64_t d, int64_t rank, int64_t n) override {
      return given ? given(d, rank, n) : PrefilledLayer::gaussian(seed, d, rank, n);
    }
    FusedOps* fused() override { return may_fuse ? PrefilledLayer::fused() : nullptr; }
    std::function<std::vector<float>(int64_t, int64_t, int64_t)> given;
    bool may_fuse = true;
  };

  std::unique_ptr<View> make_view(const Press& press, int64_t il) const {
    auto view = std::make_unique<View>(*compute_, LayerModel{hp_, nullptr, wo_, il}, kv_, data_.n_tokens);
    view->given = data_.gaussian;
    view->may_fuse = fused_;
    // No model is there to repeat anything; any scores will do.
    const auto any = [&](int64_t n_head) {
      Scores scores(data_.n_tokens, n_head);
      scores.data() = view->PrefilledLayer::gaussian(press.seed(), data_.n_tokens, 1, n_head);
      return scores;
    };
    view->repeated = {any(data_.n_head_kv), any(data_.n_head_kv * data_.n_group)};
    return view;
  }

  int64_t n_embd() const {
    return data_.wo.empty()
               ? 8
               : static_cast<int64_t>(data_.wo.size()) / (data_.d * data_.n_head_kv * data_.n_group);
  }

  static void fill(ggml_tensor* t, const std::vector<float>& rows) {
    const int64_t d = t->ne[0], n_head = t->ne[1],
                  n_tokens = static_cast<int64_t>(rows.size()) / (d * n_head);
    for (int64_t h = 0; h < n_head; ++h) {
      for (int64_t i = 0; i < n_tokens; ++i) set_row(t, h, i, rows.data() + (h * n_tokens + i) * d, d);
    }
  }

  static void set_row(ggml_tensor* t, int64_t h, int64_t token, const float* row, int64_t d) {
    const size_t at = static_cast<size_t>(h) * t->nb[1] + static_cast<size_t>(token) * t->nb[2];
    if (t->type == GGML_TYPE_F32) {
      ggml_backend_tensor_set(t, row, at, static_cast<size_t>(d) * sizeof(float));
      return;
    }
    std::vector<ggml_fp16_t> half(static_cast<size_t>(d));
    ggml_fp32_to_fp16_row(row, half.data(), d);
    ggml_backend_tensor_set(t, half.data(), at, half.size() * sizeof(ggml_fp16_t));
  }

  LayerData data_;
  bool fused_ = true;
  LayerKv kv_;
  ggml_tensor* wo_ = nullptr;
  HParams hp_;
  std::unique_ptr<Compute> compute_;
};

inline std::vector<float> random_floats(int64_t n, uint32_t seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  std::vector<float> out(static_cast<size_t>(n));
  for (float& x : out) x = normal(rng);
  return out;
}

class RandomLayer : public TestLayer {
 public:
  RandomLayer(int64_t n_tokens, int64_t n_head_kv, int64_t d, uint32_t seed, int n_threads = 2)
      : TestLayer({n_tokens,
                   n_head_kv,
                   2,
                   d,
                   GGML_TYPE_F16,
                   random_floats(n_tokens * n_head_kv * d, seed),
                   random_floats(n_tokens * n_head_kv * d, seed + 1000),
                   random_floats(n_tokens * n_head_kv * 2 * d, seed + 2000),
                   {.pairing = RopePairing::neox, .n_rot = static_cast<int>(d)}},
                  n_threads) {}
};

}  // namespace curdkv::testing
