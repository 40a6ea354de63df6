// Products in 8 bits by each instruction set that this processor has, and a prefill's in AMX's BF16, one
// thread, beside ggml's (as it was built): random weights of 1,024 by 4,096. A prefill's, of 510 tokens, in
// GOP/s; decoding's, of 1, 4 and 8 tokens at once, in GB of weights read a second, which come from the cache
// here. The best of several repeats. Prints Markdown tables.
#include <ggml-alloc.h>
#include <ggml-backend.h>
#include <ggml-cpu.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "base/cpu.h"
#include "base/ggml_ptr.h"
#include "base/stopwatch.h"
#include "compute/bf16_tiles.h"
#include "compute/products/kernel.h"
#include "compute/products/row_kernel.h"
#include "support/score.h"

using namespace curdkv;
using namespace curdkv::testing;

namespace {

constexpr int64_t kIn = 1024, kOut = 4096, kTokens = 510;

template <typename Work>
double gops(int n_repeats, Work&& work) {
  double best = 1e300;
  for (int i = 0; i < n_repeats; ++i) {
    const Stopwatch watch;
    work();
    best = std::min(best, watch.ms());
  }
  return 2e-6 * static_cast<double>(kIn * kOut * kTokens) / best;
}

double by_kernel(const ProductKernel& kernel, const WeightMatrix& w, const std::vector<float>& x,
                 int n_repeats) {
  const int64_t n_panels = kOut / kernel.panel_rows(), tile = kernel.tile_tokens();
  const size_t panel = kernel.panel_bytes(w), packed = kernel.tile_bytes(kIn);
  std::vector<char> memory(panel * static_cast<size_t>(n_panels) + 64),
      scratch(std::max(kernel.unpack_scratch_bytes(w), kernel.multiply_scratch_bytes(w, kTokens)));
  std::vector<char> tiles(packed * static_cast<size_t>((kTokens + tile - 1) / tile));
  char* panels = memory.data() + 64 - reinterpret_cast<uintptr_t>(memory.data()) % 64;
  for (int64_t p = 0; p < n_panels; ++p)
    kernel.unpack(w, p, panels + static_cast<size_t>(p) * panel, scratch.data());
  for (int64_t t = 0; t < kTokens; t += tile)
    kernel.pack(x.data() + t * kIn, kIn, kIn, std::min(tile, kTokens - t),
                tiles.data() + static_cast<size_t>(t / tile) * packed);
  std::vector<float> y(kOut * kTokens);
  return gops(n_repeats, [&] {
    kernel.multiply(w, panels, n_panels, tiles.data(), kTokens, y.data(), kOut, scratch.data());
  });
}

double by_ggml(const WeightMatrix& w, const std::vector<float>& x, int n_repeats) {
  const GgmlBackend cpu(ggml_backend_cpu_init());
  ggml_backend_cpu_set_n_threads(cpu.get(), 1);
  const GgmlContext context(ggml_init({8 * ggml_tensor_overhead() + ggml_graph_overhead(), nullptr, true}));
  ggml_tensor* weights = ggml_new_tensor_2d(context.get(), w.type, kIn, kOut);
  ggml_tensor* inputs = ggml_new_tensor_2d(context.get(), GGML_TYPE_F32, kIn, kTokens);
  ggml_cgraph* graph = ggml_new_graph(context.get());
  ggml_build_forward_expand(graph, ggml_mul_mat(context.get(), weights, inputs));
  const GgmlBuffer buffer(ggml_backend_alloc_ctx_tensors(context.get(), cpu.get()));
  ggml_backend_tensor_set(weights, w.data, 0, ggml_nbytes(weights));
  ggml_backend_tensor_set(inputs, x.data(), 0, ggml_nbytes(inputs));
  return gops(n_repeats, [&] { ggml_backend_graph_compute(cpu.get(), graph); });
}

constexpr ggml_type kTypes[] = {GGML_TYPE_Q8_0,   GGML_TYPE_Q4_0,   GGML_TYPE_Q4_1, GGML_TYPE_Q5_0,
                                GGML_TYPE_Q5_1,   GGML_TYPE_Q4_K,   GGML_TYPE_Q5_K, GGML_TYPE_Q6_K,
                                GGML_TYPE_IQ4_NL, GGML_TYPE_IQ4_XS, GGML_TYPE_MXFP4};

double rows_gbs(const WeightMatrix& w, const std::vector<float>& x, int64_t n_columns, int n_repeats) {
  constexpr int64_t kRows = 64;  // at once, as RowProducts does
  std::vector<char> in(row_input_bytes(kIn * n_columns));
  quantise_input(x.data(), kIn * n_columns, in.data());
  std::vector<float> y(static_cast<size_t>(kOut * n_columns));
  const double ops = gops(n_repeats, [&] {
    for (int64_t r = 0; r < kOut; r += kRows)
      multiply_rows(w.type, w.row(r), kRows, kIn, in.data(), n_columns, y.data() + r, kOut);
  });
  return ops / (2.0 * kTokens) * static_cast<double>(ggml_row_size(w.type, kIn)) / kIn;
}

double ggml_rows_gbs(const WeightMatrix& w, const std::vector<float>& x, int n_repeats) {
  const auto* traits = ggml_get_type_traits_cpu(w.type);
  std::vector<char> in(ggml_row_size(traits->vec_dot_type, kIn));
  ggml_get_type_traits_cpu(traits->vec_dot_type)->from_float(x.data(), in.data(), kIn);
  std::vector<float> y(kOut);
  const double ops = gops(n_repeats, [&] {
    for (int64_t r = 0; r < kOut; ++r)
      traits->vec_dot(kIn, &y[static_cast<size_t>(r)], 0, w.row(r), 0, in.data(), 0, 1);
  });
  return ops / (2.0 * kTokens) * static_cast<double>(ggml_row_size(w.type, kIn)) / kIn;
}

struct Level {
  CpuLevel level;
  std::string name;
};

std::vector<Level> levels_here() {
  std::vector<Level> out;
  for (const CpuLevel level : {CpuLevel::v3, CpuLevel::v3_vnni, CpuLevel::native}) {
    limit_cpu(level);
    const std::string name = int8_kernel_name();
    if (!name.empty() && (out.empty() || out.back().name != name)) out.push_back({level, name});
  }
  return out;
}

void print_head(const char* unit, const std::vector<Level>& levels, const std::string& more = "") {
  std::printf("| %s, one thread |", unit);
  for (const Level& l : levels) std::printf(" %s |", l.name.c_str());
  std::printf("%s ggml |\n|---|", more.c_str());
  for (size_t i = 0; i < levels.size() + (more.empty() ? 1 : 2); ++i) std::printf("---|");
  std::printf("\n");
}

}  // namespace

int main(int argc, char** argv) {
  const int n_repeats = argc > 1 ? std::max(1, std::atoi(argv[1])) : 9;
  ggml_cpu_init();
  const std::vector<Level> levels = levels_here();
  const auto values = random_floats(kIn * kOut, 1), x = random_floats(kIn * kTokens, 2);
  std::vector<std::vector<char>> weights;
  for (const ggml_type type : kTypes) {
    weights.emplace_back(ggml_row_size(type, kIn) * kOut);
    ggml_quantize_chunk(type, values.data(), weights.back().data(), 0, kOut, kIn, nullptr);
  }
  const auto each = [&](auto&& print) {
    for (size_t i = 0; i < weights.size(); ++i) {
      std::printf("| %s |", ggml_type_name(kTypes[i]));
      print(WeightMatrix{kTypes[i], weights[i].data(), kIn, kOut});
      std::fflush(stdout);
    }
  };
  const auto tiles = make_bf16_kernel(amx_tiles());  // of the last level, which is all there is
  print_head("GOP/s", levels, tiles ? " AMX |" : "");
  each([&](const WeightMatrix& w) {
    for (const Level& l : levels) {
      limit_cpu(l.level);
      std::printf(" %.0f |", by_kernel(*make_int8_kernel(), w, x, n_repeats));
    }
    if (tiles) std::printf(" %.0f |", by_kernel(*tiles, w, x, n_repeats));
    std::printf(" %.0f |\n", by_ggml(w, x, n_repeats));
  });
  std::printf("\n");
  print_head("GB/s with 1, 4, 8 tokens", levels);
  each([&](const WeightMatrix& w) {
    for (const Level& l : levels) {
      limit_cpu(l.level);
      std::printf(" %.1f, %.1f, %.1f |", rows_gbs(w, x, 1, n_repeats), rows_gbs(w, x, 4, n_repeats),
                  rows_gbs(w, x, 8, n_repeats));
    }
    std::printf(" %.1f |\n", ggml_rows_gbs(w, x, n_repeats));
  });
}
