#include <ggml.h>

#include "attention/attention_kernel.h"
#include "attention/prefill_kernel.h"
#include "base/cpu.h"
#include "base/format.h"
#include "compute/bf16_tiles.h"
#include "compute/products/kernel.h"
#include "compute/products/row_kernel.h"
#include "curdkv/version.h"
#include "model/weights.h"

namespace curdkv {
namespace {

std::string compiler() {
#if defined(__clang__)
  return format("Clang %d.%d.%d", __clang_major__, __clang_minor__, __clang_patchlevel__);
#elif defined(__GNUC__)
  return format("GCC %d.%d.%d", __GNUC__, __GNUC_MINOR__, __GNUC_PATCHLEVEL__);
#else
  return "unknown";
#endif
}

}  // namespace

BuildInfo build_info() {
  BuildInfo b;
  b.version = CURDKV_VERSION;
  b.compiler = compiler();
  b.llama_cpp = format("llama.cpp %s, ggml %s", CURDKV_LLAMA_VERSION, ggml_version());
  b.ggml_features = ggml_features();
  b.cpu = cpu_name();
  b.cpu_features = cpu_features();
  for (ggml_backend_dev_t gpu : gpu_devices()) b.gpus.emplace_back(ggml_backend_dev_description(gpu));
  const std::string int8 = int8_kernel_name();
  b.prefill_products = amx_tiles() != nullptr ? "BF16, AMX (quantised and BF16 weights); ggml's (others)"
                       : int8.empty()         ? "ggml's"
                                      : "8-bit integers, " + int8 + " (quantised weights); ggml's (others)";
  b.prefill_attention = prefill_kernel_name();
  std::string list;
  for (int i = 0; i < GGML_TYPE_COUNT; ++i) {
    const auto type = static_cast<ggml_type>(i);
    if (ggml_blck_size(type) == 0 || !row_kernel_takes(type, ggml_blck_size(type))) continue;
    b.own_types.emplace_back(ggml_type_name(type));
    list += (list.empty() ? "" : ", ") + b.own_types.back();
  }
  b.decoding_products =
      int8.empty() ? "ggml's" : "8-bit integers, " + int8 + " (" + list + "); ggml's (others)";
  b.attention = attention_kernel_name();
  return b;
}

}  // namespace curdkv
