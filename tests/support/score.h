// Runs a press on given or random keys and values, through the engine's own scoring and selection.
#pragma once

#include <ggml-cpu.h>

#include <random>

#include "engine/prefill.h"
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

// Keys and values of one layer as [n_head_kv][n_tokens][d], fastest last, put where the prefill would put
// them.
class TestLayer {
 public:
  TestLayer(int64_t n_tokens, int64_t n_head_kv, int64_t d, ggml_type type, const std::vector<float>& keys,
            const std::vector<float>& values)
      : n_tokens_(n_tokens), n_head_kv_(n_head_kv) {
    const int64_t n_padded = round_up(n_tokens, kTileTokens);
    kv_.context = make_ggml_context(2);
    kv_.k = ggml_new_tensor_3d(kv_.context.get(), type, d, n_head_kv, n_padded);
    kv_.v = ggml_new_tensor_3d(kv_.context.get(), type, d, n_head_kv, n_padded);
    ggml_cpu_init();
    const auto cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    kv_.buffer.reset(
        ggml_backend_alloc_ctx_tensors_from_buft(kv_.context.get(), ggml_backend_dev_buffer_type(cpu)));
    for (int64_t h = 0; h < n_head_kv; ++h) {
      for (int64_t t = 0; t < n_tokens; ++t) {
        set_row(kv_.k, h, t, keys.data() + (h * n_tokens + t) * d, d);
        set_row(kv_.v, h, t, values.data() + (h * n_tokens + t) * d, d);
      }
    }
  }

  const LayerKv& kv() const { return kv_; }
  KeptTokens select(const Press& press, int64_t il = 0) const {
    return must(select_tokens(*compute_, press, kv_, n_tokens_, il));
  }
  std::vector<float> scores(const Press& press, const Gaussian& gaussian = {}) const {
    return must(score_tokens(*compute_, *press.scorer(), kv_, n_tokens_, gaussian));
  }

 private:
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

  int64_t n_tokens_, n_head_kv_;
  LayerKv kv_;
  std::unique_ptr<Compute> compute_ = make_compute();
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
  RandomLayer(int64_t n_tokens, int64_t n_head_kv, int64_t d, uint32_t seed)
      : TestLayer(n_tokens, n_head_kv, d, GGML_TYPE_F16, random_floats(n_tokens * n_head_kv * d, seed),
                  random_floats(n_tokens * n_head_kv * d, seed + 1000)) {}
};

}  // namespace curdkv::testing
