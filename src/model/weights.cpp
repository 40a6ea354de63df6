#include "model/weights.h"

#include <ggml-cpu.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <new>

#include "base/format.h"
#include "base/try.h"
#include "model/rpc.h"

namespace curdkv {

namespace {

enum class Use { rows, product, elementwise };  // get_rows, mul_mat, add or mul

// Whether the device can run the operation on a weight that lies in this buffer type.
bool supports(ggml_backend_dev_t dev, ggml_backend_buffer_type_t buft, ggml_type type, int64_t ne0,
              int64_t ne1, Use use) {
  GgmlContext ctx = make_ggml_context(8);
  GgmlBuffer dummy(ggml_backend_buft_alloc_buffer(buft, 0));
  if (!ctx || !dummy) return false;
  ggml_tensor* w = ggml_new_tensor_2d(ctx.get(), type, ne0, ne1);
  w->buffer = dummy.get();
  ggml_tensor* op = nullptr;
  if (use == Use::product) {
    op = ggml_mul_mat(ctx.get(), w, ggml_new_tensor_2d(ctx.get(), GGML_TYPE_F32, ne0, 512));
  } else if (use == Use::rows) {
    op = ggml_get_rows(ctx.get(), w, ggml_new_tensor_1d(ctx.get(), GGML_TYPE_I32, 512));
  } else {
    op = ggml_mul(ctx.get(), ggml_new_tensor_2d(ctx.get(), GGML_TYPE_F32, ne0, 512), w);
  }
  return ggml_backend_dev_supports_op(dev, op);
}

using BufferTypes = std::vector<ggml_backend_buffer_type_t>;

// The CPU's buffer types, the ones that repack weights for speed first, as libllama orders them.
BufferTypes cpu_buffer_types(ggml_backend_dev_t cpu) {
  BufferTypes types;
  auto* get_extra = reinterpret_cast<ggml_backend_dev_get_extra_bufts_t>(ggml_backend_reg_get_proc_address(
      ggml_backend_dev_backend_reg(cpu), "ggml_backend_dev_get_extra_bufts"));
  for (auto* extra = get_extra ? get_extra(cpu) : nullptr; extra && *extra; ++extra) types.push_back(*extra);
  types.push_back(ggml_backend_dev_buffer_type(cpu));
  return types;
}

// Places each layer on a device: the last n_gpu_layers on the GPUs, in proportion to their free memory.
Result<void> place_layers(Weights& w, int64_t n_layer, const ModelParams& params) {
  const int n_gpu_layers = params.n_gpu_layers;
  CURDKV_TRY(std::vector<ggml_backend_dev_t> devices, rpc_devices(params.rpc_servers));
  for (ggml_backend_dev_t dev : gpu_devices()) devices.push_back(dev);
  ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
  std::vector<std::pair<ggml_backend_dev_t, double>> gpus;  // device, share of what is offloaded up to here
  double total = 0;
  for (ggml_backend_dev_t dev : devices) {
    size_t free = 0, all = 0;
    ggml_backend_dev_memory(dev, &free, &all);
    gpus.emplace_back(dev, total += std::max<double>(1.0, static_cast<double>(free)));
  }
  if (n_gpu_layers > 0 && gpus.empty()) {
    return Error{ErrorCode::bad_argument,
                 "layers cannot be kept on a GPU: there is none that this build can use"};
  }
  const int64_t n_offloaded = std::min<int64_t>(n_gpu_layers, n_layer + 1);
  const int64_t first = n_layer + 1 - n_offloaded;  // counted over layers, then the output matrix
  const auto device_of = [&](int64_t i) {
    if (i < first) return cpu;
    const double at = (static_cast<double>(i - first) + 0.5) / static_cast<double>(n_offloaded) * total;
    for (const auto& [dev, upto] : gpus) {
      if (at <= upto) return dev;
    }
    return gpus.back().first;
  };
  for (int64_t il = 0; il < n_layer; ++il) w.layer_device.push_back(device_of(il));
  w.output_device = device_of(n_layer);
  return {};
}

// Collects tensors by buffer type, then allocates and fills one buffer for each.
class Loader {
 public:
  Loader(const GgufFile& file, Weights& weights) : file_(file), weights_(weights) {
    cpu_ = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    cpu_types_ = cpu_buffer_types(cpu_);
  }

  // nullptr if the file has no tensor of that name.
  ggml_tensor* add(const std::string& name, ggml_backend_dev_t dev, Use use) {
    const GgufTensor* t = file_.find(name);
    if (t == nullptr) return nullptr;
    ggml_backend_buffer_type_t buft = choose(*t, dev, use);
    GgmlContext& ctx = contexts_[buft];
    if (!ctx) ctx = make_ggml_context(file_.tensors().size() + 2);  // +2: tied matrices come twice
    ggml_tensor* tensor = ggml_new_tensor_2d(ctx.get(), t->type, t->ne[0], t->ne[1]);
    ggml_set_name(tensor, name.c_str());
    return tensor;
  }

  Result<void> fill() {
    for (auto& [buft, ctx] : contexts_) {
      if (buft == cpu_types_.back() && file_.bytes().data() != nullptr && mappable()) {
        CURDKV_CHECK(map(ctx.get()));
      } else {
        CURDKV_CHECK(copy(buft, ctx.get()));
      }
      weights_.contexts.push_back(std::move(ctx));
    }
    return {};
  }

 private:
  ggml_backend_buffer_type_t choose(const GgufTensor& t, ggml_backend_dev_t dev, Use use) const {
    const auto fits = [&](ggml_backend_dev_t d, ggml_backend_buffer_type_t b) {
      return supports(d, b, t.type, t.ne[0], t.ne[1], use);
    };
    if (dev != cpu_ && fits(dev, ggml_backend_dev_buffer_type(dev))) return ggml_backend_dev_buffer_type(dev);
    for (ggml_backend_buffer_type_t b : cpu_types_) {
      if (use == Use::product && fits(cpu_, b)) return b;
    }
    return cpu_types_.back();
  }

  const char* data(const ggml_tensor* t) const { return file_.bytes().data() + file_.find(t->name)->offset; }

  bool mappable() const {  // ggml wants tensor data aligned; odd general.alignment values are copied instead
    return std::all_of(file_.tensors().begin(), file_.tensors().end(),
                       [](const GgufTensor& t) { return t.offset % 32 == 0; });
  }

  Error unmapped(const std::string& what) const { return {ErrorCode::internal, file_.path() + ": " + what}; }

  Result<void> map(ggml_context* ctx) {
    size_t largest = 0;
    for (const GgufTensor& t : file_.tensors()) largest = std::max(largest, t.n_bytes);
    GgmlBuffer buffer(
        ggml_backend_dev_buffer_from_host_ptr(cpu_, file_.bytes().data(), file_.bytes().size(), largest));
    if (!buffer) return unmapped("cannot be used as mapped memory");
    ggml_backend_buffer_set_usage(buffer.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
    for (ggml_tensor* t = ggml_get_first_tensor(ctx); t; t = ggml_get_next_tensor(ctx, t)) {
      if (ggml_backend_tensor_alloc(buffer.get(), t, const_cast<char*>(data(t))) != GGML_STATUS_SUCCESS) {
        return unmapped(format("tensor '%s' cannot be mapped", t->name));
      }
    }
    weights_.buffers.push_back(std::move(buffer));
    return {};
  }

  Result<void> copy(ggml_backend_buffer_type_t buft, ggml_context* ctx) {
    GgmlBuffer buffer(ggml_backend_alloc_ctx_tensors_from_buft(ctx, buft));
    if (!buffer) {
      return Error{ErrorCode::out_of_memory,
                   format("not enough memory for the weights (%s)", ggml_backend_buft_name(buft))};
    }
    ggml_backend_buffer_set_usage(buffer.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
    for (ggml_tensor* t = ggml_get_first_tensor(ctx); t; t = ggml_get_next_tensor(ctx, t)) {
      CURDKV_CHECK(fill_tensor(t));
    }
    weights_.buffers.push_back(std::move(buffer));
    return {};
  }

  // From the mapping if there is one, else read: in place where the host can write the buffer.
  Result<void> fill_tensor(ggml_tensor* t) {
    const size_t offset = file_.find(t->name)->offset, n = ggml_nbytes(t);
    if (file_.bytes().data() != nullptr) {
      ggml_backend_tensor_set(t, data(t), 0, n);
      file_.bytes().give_back(offset, n);  // one copy is enough
      return {};
    }
    if (ggml_backend_buffer_is_host(t->buffer)) return file_.bytes().read(t->data, offset, n);
    std::unique_ptr<char[]> staged(new (std::nothrow) char[n]);
    if (!staged) return Error{ErrorCode::out_of_memory, "not enough memory to load the weights"};
    CURDKV_CHECK(file_.bytes().read(staged.get(), offset, n));
    ggml_backend_tensor_set(t, staged.get(), 0, n);
    return {};
  }

  const GgufFile& file_;
  Weights& weights_;
  ggml_backend_dev_t cpu_;
  BufferTypes cpu_types_;
  std::map<ggml_backend_buffer_type_t, GgmlContext> contexts_;
};

}  // namespace

std::vector<ggml_backend_dev_t> gpu_devices() {
  std::vector<ggml_backend_dev_t> gpus;
  for (size_t i = 0; i < ggml_backend_dev_count(); ++i) {
    ggml_backend_dev_t dev = ggml_backend_dev_get(i);
    const auto type = ggml_backend_dev_type(dev);
    if (type == GGML_BACKEND_DEVICE_TYPE_GPU || type == GGML_BACKEND_DEVICE_TYPE_IGPU) gpus.push_back(dev);
  }
  return gpus;
}

Result<Weights> load_weights(const GgufFile& file, const HParams& hp, const Architecture& arch,
                             const ModelParams& params) {
  Weights w;
  CURDKV_CHECK(place_layers(w, hp.n_layer, params));
  ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
  Loader loader(file, w);
  w.token_embd = loader.add("token_embd.weight", cpu, Use::rows);
  w.output_norm = loader.add("output_norm.weight", w.output_device, Use::elementwise);
  w.output = loader.add("output.weight", w.output_device, Use::product);
  if (w.output == nullptr) w.output = loader.add("token_embd.weight", w.output_device, Use::product);
  w.rope_freqs = loader.add("rope_freqs.weight", w.layer_device[0], Use::elementwise);
  w.layers.resize(static_cast<size_t>(hp.n_layer));
  for (size_t il = 0; il < w.layers.size(); ++il) {
    const std::string prefix = format("blk.%zu.", il);
    for (const TensorSpec& s : arch.tensors) {
      const Use use = s.ne1 ? Use::product : Use::elementwise;
      w.layers[il].*s.member = loader.add(prefix + s.name, w.layer_device[il], use);
    }
  }
  CURDKV_CHECK(loader.fill());
  if (file.bytes().data() != nullptr) w.file = &file.bytes();
  return w;
}

}  // namespace curdkv
