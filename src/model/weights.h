// A model's tensors, each in the buffer type that suits its use: mapped from the file where the device can
// use host memory, repacked by the CPU's extra buffer types where those speed up its matrix products, or on
// the GPU device of its layer.
#pragma once

#include <ggml-backend.h>
#include <ggml.h>

#include <memory>
#include <vector>

#include "base/ggml_ptr.h"
#include "curdkv/model.h"
#include "model/architecture.h"
#include "model/gguf_file.h"

namespace curdkv {

struct Weights {
  ggml_tensor* token_embd = nullptr;   // any [n_embd, n_vocab], on the CPU
  ggml_tensor* output_norm = nullptr;  // F32 [n_embd]
  ggml_tensor* output = nullptr;       // any [n_embd, n_vocab]; token_embd's data when tied
  ggml_tensor* rope_freqs = nullptr;   // F32 [n_rot / 2], may be absent
  std::vector<LayerWeights> layers;

  std::vector<ggml_backend_dev_t> layer_device;  // where layer il and its cache live
  ggml_backend_dev_t output_device = nullptr;

  const MappedFile* file = nullptr;  // the mapping that weights lie in; null if they all were read
  std::vector<GgmlContext> contexts;
  std::vector<GgmlBuffer> buffers;
};

// The GPUs that this build of ggml can use.
std::vector<ggml_backend_dev_t> gpu_devices();

// Checks every tensor's presence and shape and that none is left over. Errors, naming the tensor: corrupt if
// it is missing or of another shape, unsupported for its type or if there is no use for it.
Result<void> check_tensors(const GgufFile& file, const HParams& hp, const Architecture& arch);

// The weights lie in the file's mapping, if it is mapped and that will do, and the mapping must outlive them;
// else they are read. Errors: out_of_memory; as of MappedFile::read; bad_argument if there is no GPU for
// layers that are to lie on one.
Result<Weights> load_weights(const GgufFile& file, const HParams& hp, const Architecture& arch,
                             const ModelParams& params);

}  // namespace curdkv
