// What a prefill's time goes to, kernel by kernel: the products of one layer with 512 tokens, and the
// attention of 512 tokens behind many, as GFLOP/s beside the machine's F32 limit in the same run; medians of
// interleaved repetitions. usage: prefill MODEL.gguf [THREADS [DEPTH [REPETITIONS]]]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>

#include "attention/prefill_attention.h"
#include "attention/ragged_attention.h"
#include "base/stopwatch.h"
#include "compute/bf16_tiles.h"
#include "compute/products/layer_products.h"
#include "measure/machine.h"
#include "support/must.h"

using namespace curdkv;
using namespace curdkv::testing;

namespace {

constexpr int64_t kTokens = 512;

struct Rung {
  std::string name;
  double gflop;                                        // of one run
  std::function<std::vector<ggml_tensor*>()> prepare;  // builds the graph; what is to be filled
  std::vector<double> seconds = {};
};

void fill(ggml_tensor* t) {
  std::vector<float> values(static_cast<size_t>(ggml_nelements(t)));
  for (size_t i = 0; i < values.size(); ++i) values[i] = 0.1f * static_cast<float>(i * 7 % 13) - 0.6f;
  std::vector<char> bytes(ggml_nbytes(t));
  ggml_quantize_chunk(t->type, values.data(), bytes.data(), 0, ggml_nrows(t), t->ne[0], nullptr);
  ggml_backend_tensor_set(t, bytes.data(), 0, bytes.size());
}

void run(Compute& compute, Rung& rung) {
  const auto inputs = rung.prepare();
  for (ggml_tensor* t : inputs) ggml_set_input(t);
  must(compute.allocate());
  for (ggml_tensor* t : inputs) fill(t);
  must(compute.run());  // once to touch all memory
  const Stopwatch watch;
  must(compute.run());
  rung.seconds.push_back(watch.ms() / 1e3);
}

// The seven products of a layer.
Rung products(Compute& compute, const Model::Impl& model, const char* name, LayerProducts& kernel) {
  const LayerWeights& w = model.weights.layers[0];
  double n_weights = 0;
  for (const ggml_tensor* t : model.matrices(0)) n_weights += static_cast<double>(ggml_nelements(t));
  return {name, 2e-9 * n_weights * kTokens, [&compute, &kernel, w] {
            must(kernel.load(0));
            ggml_context* ctx = must(compute.begin());
            const Multiply multiply = kernel.multiply_by();
            const auto input = [&](int64_t n) { return ggml_new_tensor_2d(ctx, GGML_TYPE_F32, n, kTokens); };
            ggml_tensor *x = input(w.wq->ne[0]), *heads = input(w.wo->ne[0]), *ff = input(w.w_down->ne[0]);
            for (auto [weights, from] : {std::pair{w.wq, x},
                                         {w.wk, x},
                                         {w.wv, x},
                                         {w.wo, heads},
                                         {w.w_gate, x},
                                         {w.w_up, x},
                                         {w.w_down, ff}}) {
              ggml_build_forward_expand(compute.graph(), multiply(ctx, weights, from));
            }
            return std::vector{x, heads, ff};
          }};
}

// Attention of kTokens tokens that see all before them; own: ours or ggml's.
Rung attention(Compute& compute, const Model::Impl& model, int64_t depth, bool own) {
  const LayerShape& l = model.hp.layer(0);
  const int64_t n = depth + kTokens;
  const double seen = static_cast<double>(depth + kTokens / 2);
  const double gflop = 2e-9 * seen * kTokens * static_cast<double>(l.n_head * (l.d_head_k + l.d_head_v));
  return {own ? "attention, ours" : "attention, ggml's", gflop, [&compute, &l, n, own] {
            ggml_context* ctx = must(compute.begin());
            ggml_tensor* q = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, l.d_head_k, l.n_head, kTokens);
            ggml_tensor* k_rows = ggml_new_tensor_3d(ctx, GGML_TYPE_F16, l.d_head_k, l.n_head_kv, n);
            ggml_tensor* v_rows = ggml_new_tensor_3d(ctx, GGML_TYPE_F16, l.d_head_v, l.n_head_kv, n);
            ggml_tensor *k = ggml_permute(ctx, k_rows, 0, 2, 1, 3),
                        *v = ggml_permute(ctx, v_rows, 0, 2, 1, 3), *out;
            std::vector<ggml_tensor*> inputs = {q, k_rows, v_rows};
            if (own) {
              out = prefill_attention_cpu(compute, q, k, v, l.kq_scale, {}, amx_tiles());
            } else {
              ggml_tensor* mask = ggml_new_tensor_2d(ctx, GGML_TYPE_F16, n, kTokens);
              inputs.push_back(mask);
              out = ggml_flash_attn_ext(ctx, ggml_permute(ctx, q, 0, 2, 1, 3), k, v, mask, l.kq_scale, 0, 0);
              ggml_prec_set_acc(out, GGML_PREC_F32);
            }
            ggml_build_forward_expand(compute.graph(), out);
            return inputs;
          }};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: prefill MODEL.gguf [THREADS [DEPTH [REPETITIONS]]]\n");
    return 2;
  }
  const int n_threads = argc > 2 ? std::atoi(argv[2]) : 2;
  const int64_t depth = argc > 3 ? std::atoll(argv[3]) : 4096;
  const int n_repetitions = argc > 4 ? std::atoi(argv[4]) : 7;
  const Model model = must(Model::load(argv[1]));
  auto compute = must(Compute::create(model.impl().weights, n_threads, 4096, nullptr));
  ProductKernels bf16, int8, onednn;
  if (auto k = make_bf16_kernel(amx_tiles())) bf16.push_back(std::move(k));
  if (auto k = make_int8_kernel()) int8.push_back(std::move(k));
  if (auto k = make_onednn_kernel()) onednn.push_back(std::move(k));
  LayerProducts with_ggml(*compute, model.impl(), {}), with_bf16(*compute, model.impl(), bf16),
      with_int8(*compute, model.impl(), int8), with_onednn(*compute, model.impl(), onednn);
  std::vector<Rung> rungs = {products(*compute, model.impl(), "products, ggml's", with_ggml)};
  if (!bf16.empty()) rungs.push_back(products(*compute, model.impl(), "products, AMX", with_bf16));
  if (!int8.empty()) rungs.push_back(products(*compute, model.impl(), "products, int8", with_int8));
  if (!onednn.empty()) rungs.push_back(products(*compute, model.impl(), "products, oneDNN", with_onednn));
  rungs.push_back(attention(*compute, model.impl(), depth, false));
  rungs.push_back(attention(*compute, model.impl(), depth, true));

  const measure::Machine machine(n_threads, 1 << 20);
  std::vector<double> limits;
  for (int r = 0; r < n_repetitions; ++r) {
    for (Rung& rung : rungs) run(*compute, rung);
    limits.push_back(machine.f32_gflops());
  }
  const auto median = [](std::vector<double> x) {
    std::sort(x.begin(), x.end());
    return x[x.size() / 2];
  };
  const double limit = median(limits);
  std::printf(
      "%d threads; F32 limit %.0f GFLOP/s\n| | ms | GFLOP/s | of the F32 limit |\n|---|---|---|---|\n",
      n_threads, limit);
  for (const Rung& rung : rungs) {
    const auto [low, high] = std::minmax_element(rung.seconds.begin(), rung.seconds.end());
    const double speed = rung.gflop / median(rung.seconds);
    std::printf("| %s | %.2f | %.0f (%.0f to %.0f) | %.2f |\n", rung.name.c_str(), 1e3 * median(rung.seconds),
                speed, rung.gflop / *high, rung.gflop / *low, speed / limit);
  }
  return 0;
}
