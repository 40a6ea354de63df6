// What a Model holds; for the engine.
#pragma once

#include "curdkv/model.h"
#include "model/architecture.h"
#include "model/gguf_file.h"
#include "model/hparams.h"
#include "model/weights.h"

namespace curdkv {

struct Model::Impl {
  ModelParams params;
  GgufFile file;  // its mapping, if there is one, outlives the weights below
  ModelInfo info;
  const Architecture* arch = nullptr;
  HParams hp;
  Weights weights;

  // All matrices of layer il, as its graph multiplies with them.
  std::vector<ggml_tensor*> matrices(int64_t il) const {
    return arch->matrices_of(weights.layers[static_cast<size_t>(il)]);
  }
};

// Everything but the weights: metadata read and found supported. Errors: as of Model::load.
Result<Model::Impl> read_model(const std::string& path);

}  // namespace curdkv
