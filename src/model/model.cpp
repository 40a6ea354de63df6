#include "curdkv/model.h"

#include <algorithm>
#include <map>

#include "base/format.h"
#include "base/guard.h"
#include "base/log_capture.h"
#include "base/try.h"
#include "curdkv/version.h"
#include "model/model_impl.h"

namespace curdkv {
namespace {

std::string list_architectures() {
  std::string list;
  for (const Architecture* a : architectures()) list += (list.empty() ? "" : ", ") + std::string(a->name);
  return list;
}

ModelInfo describe(const GgufFile& file, const HParams& hp) {
  ModelInfo info;
  info.path = file.path();
  info.architecture = hp.architecture;
  if (auto name = file.string("general.name"); name && *name) info.name = **name;
  std::map<std::string, size_t> bytes_by_type;
  std::map<std::string, int64_t> of_matrices;
  for (const GgufTensor& t : file.tensors()) {
    info.n_params += t.ne[0] * t.ne[1] * t.ne[2] * t.ne[3];
    info.weights_bytes += static_cast<int64_t>(t.n_bytes);
    bytes_by_type[ggml_type_name(t.type)] += t.n_bytes;
    if (t.ne[1] > 1) of_matrices[ggml_type_name(t.type)] += static_cast<int64_t>(t.n_bytes);
  }
  for (const auto& [type, bytes] : of_matrices) info.weight_types.push_back({type, bytes});
  std::stable_sort(info.weight_types.begin(), info.weight_types.end(),
                   [](const WeightType& a, const WeightType& b) { return a.bytes > b.bytes; });
  size_t most = 0;
  for (const auto& [type, bytes] : bytes_by_type) {
    if (bytes > most) {
      most = bytes;
      info.quantization = type;
    }
  }
  info.n_layer = hp.n_layer;
  info.n_embd = hp.n_embd;
  const LayerShape largest = hp.largest();
  info.n_head = largest.n_head;
  info.n_head_kv = largest.n_head_kv;
  info.d_head_k = largest.d_head_k;
  info.d_head_v = largest.d_head_v;
  info.n_vocab = hp.n_vocab;
  for (const LayerShape& l : hp.layers) info.n_kv += l.n_head_kv * (l.d_head_k + l.d_head_v);
  info.n_ctx_train = hp.n_ctx_train;
  return info;
}

}  // namespace

Result<Model::Impl> read_model(const std::string& path) {
  CURDKV_CHECK(check_cpu());
  Model::Impl impl;
  CURDKV_TRY(impl.file, GgufFile::open(path));
  CURDKV_TRY(const auto kind, impl.file.string("general.type"));
  if (kind == "kv-context") {
    return impl.file.unsupported("is a saved context, not a model; ask it with curdkv run --context FILE");
  }
  CURDKV_TRY(const auto name, impl.file.string("general.architecture"));
  if (!name) return impl.file.corrupt("does not say which architecture it is (no general.architecture)");
  CURDKV_TRY(const auto n_split, impl.file.integer("split.count"));
  if (n_split.value_or(0) > 1) {
    return impl.file.unsupported(
        "is one part of a split model; join the parts with llama-gguf-split --merge");
  }
  impl.arch = find_architecture(*name);
  if (impl.arch == nullptr) {
    return impl.file.unsupported("architecture '" + *name +
                                 "' is not supported (supported: " + list_architectures() + ")");
  }
  CURDKV_TRY(impl.hp, impl.arch->read_hparams(impl.file));
  CURDKV_CHECK(check_tensors(impl.file, impl.hp, *impl.arch));
  impl.info = describe(impl.file, impl.hp);
  return impl;
}

std::vector<std::string> supported_architectures() {
  std::vector<std::string> list;
  for (const Architecture* a : architectures()) list.push_back(format("%-8s%s", a->name, a->members));
  return list;
}

Result<ModelInfo> Model::inspect(const std::string& path) {
  return guarded([&]() -> Result<ModelInfo> {
    capture_logs();
    CURDKV_TRY(const Impl impl, read_model(path));
    return impl.info;
  });
}

Result<Model> Model::load(const std::string& path, const ModelParams& params) {
  return guarded([&]() -> Result<Model> {
    capture_logs();
    CURDKV_TRY(Impl impl, read_model(path));
    impl.params = params;
    auto shared = std::make_shared<Impl>(std::move(impl));
    if (params.use_mmap) CURDKV_CHECK(shared->file.map());
    CURDKV_TRY(shared->weights, load_weights(shared->file, shared->hp, *shared->arch, params));
    CURDKV_CHECK(shared->file.bytes().check());  // whole all the while
    return Model(std::move(shared));
  });
}

const ModelInfo& Model::info() const {
  return impl_->info;
}

}  // namespace curdkv
