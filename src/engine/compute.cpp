#include "engine/compute.h"

#include <algorithm>

#include "base/format.h"
#include "base/log_capture.h"

namespace curdkv {

Result<std::unique_ptr<Compute>> Compute::create(const Weights& weights, int n_threads, size_t max_nodes,
                                                 const std::atomic<bool>* stop) {
  std::unique_ptr<Compute> c(new Compute);
  c->max_nodes_ = max_nodes;
  c->stop_ = stop;
  c->weights_file_ = weights.file;
  std::vector<ggml_backend_dev_t> devices = weights.layer_device;
  devices.push_back(weights.output_device);
  ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
  std::vector<ggml_backend_dev_t> unique;
  for (ggml_backend_dev_t d : devices) {
    if (d != cpu && std::find(unique.begin(), unique.end(), d) == unique.end()) unique.push_back(d);
  }
  unique.push_back(cpu);  // the scheduler wants it last
  std::vector<ggml_backend_t> raw;
  for (ggml_backend_dev_t d : unique) {
    GgmlBackend backend(ggml_backend_dev_init(d, nullptr));
    if (!backend) {
      return Error{ErrorCode::internal, format("the device %s cannot be used", ggml_backend_dev_name(d))};
    }
    raw.push_back(backend.get());
    c->backends_.push_back(std::move(backend));
  }
  ggml_threadpool_params pool = ggml_threadpool_params_default(n_threads);
  // Between graphs threads sleep at once: spinning ones would take the cores from another session's.
  pool.poll = 0;
  c->threadpool_ = ggml_threadpool_new(&pool);
  if (c->threadpool_ == nullptr) return Error{ErrorCode::internal, "threads cannot be started"};
  ggml_backend_cpu_set_n_threads(raw.back(), n_threads);
  ggml_backend_cpu_set_threadpool(raw.back(), c->threadpool_);
  if (stop != nullptr) {
    const auto stopped = [](void* flag) { return static_cast<std::atomic<bool>*>(flag)->load(); };
    ggml_backend_cpu_set_abort_callback(raw.back(), stopped, const_cast<std::atomic<bool>*>(stop));
  }
  c->sched_.reset(
      ggml_backend_sched_new(raw.data(), nullptr, static_cast<int>(raw.size()), max_nodes, false, true));
  c->meta_.resize(max_nodes * ggml_tensor_overhead() + ggml_graph_overhead_custom(max_nodes, false));
  return c;
}

Compute::~Compute() {
  sched_.reset();
  backends_.clear();
  if (threadpool_ != nullptr) ggml_threadpool_free(threadpool_);
}

ggml_context* Compute::begin() {
  ++epoch_;
  kept_.clear();
  ggml_backend_sched_reset(sched_.get());
  context_.reset(ggml_init({meta_.size(), meta_.data(), true}));
  graph_ = ggml_new_graph_custom(context_.get(), max_nodes_, false);
  return context_.get();
}

Result<void> Compute::allocate() {
  if (!ggml_backend_sched_alloc_graph(sched_.get(), graph_)) {
    const std::string why = take_log_error();
    return Error{ErrorCode::out_of_memory,
                 "not enough memory for intermediate results" + (why.empty() ? "" : ": " + why)};
  }
  return {};
}

Result<void> Compute::run() {
  if (cancelled()) return Error{ErrorCode::cancelled, "stopped"};
  const ggml_status status = ggml_backend_sched_graph_compute(sched_.get(), graph_);
  if (status == GGML_STATUS_ABORTED || cancelled()) return Error{ErrorCode::cancelled, "stopped"};
  if (weights_file_ != nullptr) {
    if (auto whole = weights_file_->check(); !whole) return whole.error();
  }
  if (status == GGML_STATUS_ALLOC_FAILED)
    return Error{ErrorCode::out_of_memory, "not enough memory to compute"};
  if (status != GGML_STATUS_SUCCESS) {
    return Error{ErrorCode::internal, "a backend failed: " + take_log_error()};
  }
  return {};
}

}  // namespace curdkv
