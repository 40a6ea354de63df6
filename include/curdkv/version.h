// What this build is and which of its kernels serve on this processor: what a bug report should say.
#pragma once

#include <string>
#include <vector>

#include "curdkv/result.h"

namespace curdkv {

struct BuildInfo {
  std::string version;                     // of curdkv
  std::string compiler;                    // "GCC 12.2.0"
  std::string llama_cpp;                   // version of llama.cpp and ggml inside
  std::vector<std::string> ggml_features;  // what ggml's kernels use, in its words
  std::string cpu;                         // as it calls itself
  std::vector<std::string> cpu_features;   // that matter for speed, by the Linux kernel's names
  std::vector<std::string> gpus;
  // The kernels that are chosen by default for weights and caches they take (on the CPU).
  std::string prefill_products, prefill_attention, decoding_products, attention;
  std::vector<std::string> own_types;  // of weights, whose products are not ggml's in decoding either: "q4_K"
};

BuildInfo build_info();

// Whether this build can run on the processor at hand; asked whenever a model is opened. Errors: internal,
// naming the features that it lacks.
Result<void> check_cpu();

}  // namespace curdkv
