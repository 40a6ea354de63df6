// A GGUF model, loaded once and shared by any number of executors.
//
// Weights stay mapped from the file where the backend can use them in place; others are copied into the
// backend's own layout (GPU memory, the CPU's repacked types).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "curdkv/result.h"

namespace curdkv {

struct ModelParams {
  // Layers kept on GPU devices, counted from the last; the output matrix counts as one, and more than there
  // are means all.
  int n_gpu_layers = 0;
  bool use_mmap = true;  // map weights from the file; false copies them into memory
  // ggml's RPC servers (llama.cpp's rpc-server), "host:port" each, whose devices count as GPUs here, before
  // those of this machine. The protocol is neither encrypted nor checks who asks: servers have to be trusted,
  // and the network between. A server that is lost is an error of the call that needs it, and of every later
  // one of this model.
  std::vector<std::string> rpc_servers;
};

struct WeightType {
  std::string type;   // "q4_K"
  int64_t bytes = 0;  // of the matrices that are of it
};

// What a user wants to know of a model; all counts are per the GGUF metadata. Where layers differ, n_head,
// n_head_kv and d_head are the most that any of them has.
struct ModelInfo {
  std::string path;
  std::string architecture;  // general.architecture
  std::string name;          // general.name, may be empty
  std::string quantization;  // the type most weights have, e.g. "q4_1"
  int64_t n_params = 0;
  int64_t n_layer = 0;
  int64_t n_embd = 0;
  int64_t n_head = 0;
  int64_t n_head_kv = 0;
  int64_t d_head_k = 0;
  int64_t d_head_v = 0;
  int64_t n_vocab = 0;
  int64_t n_ctx_train = 0;    // tokens
  int64_t n_kv = 0;           // numbers that a token adds to a cache, keys and values of all layers
  int64_t weights_bytes = 0;  // tensor data in the file
  std::vector<WeightType> weight_types;  // of matrices, by bytes, the most first
};

// One line per architecture this library runs, e.g. "llama  Llama 2 and 3.x, Mistral, SmolLM".
std::vector<std::string> supported_architectures();

// Copies share the weights, which are freed with the last of them and of the executors that use them.
// Immutable: any number of threads may use a model at once.
class Model {
 public:
  // Errors, naming the file and the reason: io if it cannot be read; corrupt if it is no GGUF file, or one
  // that is malformed, truncated or inconsistent; unsupported for an architecture, a tensor type or a feature
  // that cannot be run; bad_argument if layers are to lie on a GPU and there is none; out_of_memory; io for
  // an RPC server that cannot be used.
  static Result<Model> load(const std::string& path, const ModelParams& params = {});

  // Reads the metadata alone and says whether load() would take the model. Errors as load().
  static Result<ModelInfo> inspect(const std::string& path);

  const ModelInfo& info() const;

  struct Impl;
  const Impl& impl() const { return *impl_; }

 private:
  explicit Model(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<const Impl> impl_;
};

}  // namespace curdkv
