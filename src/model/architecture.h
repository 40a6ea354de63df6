// What makes one model family: its name, its numbers, the tensors of its layers and how a layer is computed.
// A family is one file (llama.cpp, deci.cpp, qwen2.cpp, qwen3.cpp), which puts these together from shared
// blocks (layer_blocks.h), and one line in architectures().
#pragma once

#include <span>
#include <string>
#include <vector>

#include "model/layer_tensors.h"

namespace curdkv {

struct LayerGraph;  // layer_blocks.h

struct Architecture {
  const char* name;     // general.architecture
  const char* members;  // what users know it as
  Result<HParams> (*read_hparams)(const GgufFile&);
  std::span<const TensorSpec> tensors;                             // of a layer
  ggml_tensor* (*build_layer)(const LayerGraph&, ggml_tensor* x);  // x: F32 [n_embd, n]; so is the result

  // All matrices of a layer, as its graph multiplies with them.
  std::vector<ggml_tensor*> matrices_of(const LayerWeights& w) const;
};

extern const Architecture kLlama, kDeci, kQwen2, kQwen3;

std::span<const Architecture* const> architectures();
const Architecture* find_architecture(const std::string& name);  // nullptr if not supported

}  // namespace curdkv
