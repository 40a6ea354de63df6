#include "compute/compute.h"

#include <algorithm>
#include <stdexcept>

#include "base/format.h"
#include "base/guard.h"
#include "base/log_capture.h"
#include "base/try.h"

namespace curdkv {

Result<std::unique_ptr<Compute>> Compute::create(const Weights& weights, int n_threads, size_t max_nodes,
                                                 const std::atomic<bool>* stop) {
  std::unique_ptr<Compute> c(new Compute);
  c->n_threads_ = n_threads;
  c->n_nodes_wanted_ = max_nodes;
  c->stop_ = stop;
  c->weights_file_ = weights.file;
  std::vector<ggml_backend_dev_t> devices = weights.layer_device;
  devices.push_back(weights.output_device);
  ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
  for (ggml_backend_dev_t d : devices) {
    if (d != cpu && std::find(c->devices_.begin(), c->devices_.end(), d) == c->devices_.end())
      c->devices_.push_back(d);
  }
  c->devices_.push_back(cpu);  // the scheduler wants it last
  CURDKV_CHECK(c->start());
  return c;
}

// Backends and threads.
Result<void> Compute::start() {
  std::vector<GgmlBackend> backends;
  for (ggml_backend_dev_t d : devices_) {
    backends.emplace_back(ggml_backend_dev_init(d, nullptr));
    if (!backends.back()) {
      return Error{ErrorCode::internal, format("the device %s cannot be used", ggml_backend_dev_name(d))};
    }
  }
  ggml_threadpool_params pool = ggml_threadpool_params_default(n_threads_);
  // Between graphs threads look for the next one, since waking one takes as long as a short graph: for one to
  // six milliseconds, by the processor. Any longer they would take the cores from another executor's.
  pool.poll = 1;
  threadpool_ = ggml_threadpool_new(&pool);
  if (threadpool_ == nullptr) {
    return Error{
        ErrorCode::out_of_memory,
        format(
            "%d threads cannot be started, for lack of memory or by a limit on processes; fewer (-t) may do",
            n_threads_)};
  }
  ggml_backend_t cpu = backends.back().get();
  ggml_backend_cpu_set_n_threads(cpu, n_threads_);
  ggml_backend_cpu_set_threadpool(cpu, threadpool_);
  const auto stopped = [](void* self) { return static_cast<const Compute*>(self)->cancelled(); };
  ggml_backend_cpu_set_abort_callback(cpu, stopped, this);
  backends_ = std::move(backends);
  return {};
}

// Nothing that an exception left half done is used again, not even to free it; and the threads of a graph
// that was interrupted may still wait for each other. That is memory lost, instead of a crash or a hang.
void Compute::let_go() {
  if (busy_ != Busy::no) {
    owner_ = nullptr;
    graph_ = nullptr;
    sched_.release();
  }
  if (busy_ == Busy::running) {
    for (GgmlBackend& b : backends_) b.release();
    backends_.clear();
    threadpool_ = nullptr;
    held_.release();
  }
  busy_ = Busy::no;
}

// After what was left half done, if it can be used again at all.
Result<void> Compute::make_ready() {
  let_go();
  if (lost_) return *lost_;
  return backends_.empty() ? start() : Result<void>();
}

Compute::~Compute() {
  let_go();
  sched_.reset();
  backends_.clear();
  if (threadpool_ != nullptr) ggml_threadpool_free(threadpool_);
}

Result<ggml_context*> Compute::begin() {
  constexpr size_t kNodes = 1024;  // in steps of which there comes to be room for them
  owner_ = nullptr;
  graph_ = nullptr;
  scratch_wanted_ = 0;
  CURDKV_CHECK(make_ready());
  if (held_ == nullptr) held_ = std::make_unique<Held>();
  held_->custom.clear();
  held_->context.reset();
  if (n_nodes_wanted_ > max_nodes_) sched_.reset();
  if (sched_ == nullptr) {
    max_nodes_ = (std::max(max_nodes_, n_nodes_wanted_) + kNodes - 1) / kNodes * kNodes;
    std::vector<ggml_backend_t> raw;
    for (const GgmlBackend& b : backends_) raw.push_back(b.get());
    sched_.reset(
        ggml_backend_sched_new(raw.data(), nullptr, static_cast<int>(raw.size()), max_nodes_, false, true));
  }
  held_->meta.resize(max_nodes_ * ggml_tensor_overhead() + ggml_graph_overhead_custom(max_nodes_, false));
  busy_ = Busy::scheduling;
  ggml_backend_sched_reset(sched_.get());
  busy_ = Busy::no;
  held_->context.reset(ggml_init({held_->meta.size(), held_->meta.data(), true}));
  graph_ = ggml_new_graph_custom(context(), max_nodes_, false);
  return context();
}

Result<void> Compute::reserve_scratch() {
  const size_t align = Scratch::kAlignment, stride = (scratch_wanted_ + align - 1) / align * align;
  if (stride <= held_->scratch_stride) return {};
  held_->scratch.reset();
  held_->scratch_stride = 0;
  const size_t n_bytes = stride * static_cast<size_t>(n_threads_);
  held_->scratch.reset(static_cast<char*>(::operator new(n_bytes, std::align_val_t(align), std::nothrow)));
  if (!held_->scratch) {
    return Error{ErrorCode::out_of_memory,
                 format("not enough memory for what %d threads work in (%zu bytes)", n_threads_, n_bytes)};
  }
  held_->scratch_stride = stride;
  return {};
}

Result<void> Compute::allocate() {
  CURDKV_CHECK(reserve_scratch());
  busy_ = Busy::scheduling;
  bool allocated = false;
  try {
    allocated = ggml_backend_sched_alloc_graph(sched_.get(), graph_);
  } catch (const std::runtime_error& e) {
    return lost_.emplace(Error{ErrorCode::io, e.what()});
  }
  busy_ = Busy::no;
  if (!allocated) {
    sched_.reset();  // the next time it would take the graph for allocated
    const std::string why = take_log_error();
    return Error{ErrorCode::out_of_memory,
                 "not enough memory for intermediate results" + (why.empty() ? "" : ": " + why)};
  }
  return {};
}

void Compute::note_failure() noexcept {
  if (failed_.exchange(true)) return;
  failure_ = current_exception_as_error(ErrorCode::internal);
}

Result<void> Compute::outcome(ggml_status status) {
  if (status == GGML_STATUS_ABORTED || cancelled()) return Error{ErrorCode::cancelled, "stopped"};
  if (weights_file_ != nullptr) {
    if (auto whole = weights_file_->check(); !whole) return whole.error();
  }
  if (failed_) return std::move(failure_);
  if (status == GGML_STATUS_ALLOC_FAILED)
    return Error{ErrorCode::out_of_memory, "not enough memory to compute"};
  if (status != GGML_STATUS_SUCCESS) {
    return Error{ErrorCode::internal, "a backend failed: " + take_log_error()};
  }
  return {};
}

Result<void> Compute::run() {
  if (cancelled()) return Error{ErrorCode::cancelled, "stopped"};
  failed_ = false;
  busy_ = Busy::running;
  ggml_status status = GGML_STATUS_FAILED;
  try {
    status = ggml_backend_sched_graph_compute(sched_.get(), graph_);
  } catch (const std::runtime_error& e) {
    return lost_.emplace(Error{ErrorCode::io, e.what()});
  }
  busy_ = Busy::no;
  Result<void> done = outcome(status);
  // Tickets of a graph that did not end are out of step.
  if (!done) owner_ = nullptr;
  return done;
}

Result<void> Compute::run_node(ggml_custom_op_t op, void* self) {
  constexpr size_t kNodes = 8;
  if (cancelled()) return Error{ErrorCode::cancelled, "stopped"};
  CURDKV_CHECK(make_ready());
  std::vector<char> meta(ggml_tensor_overhead() + ggml_graph_overhead_custom(kNodes, false));
  const GgmlContext context(ggml_init({meta.size(), meta.data(), true}));
  ggml_cgraph* graph = ggml_new_graph_custom(context.get(), kNodes, false);
  ggml_build_forward_expand(graph, ggml_custom_4d(context.get(), GGML_TYPE_F32, 1, 1, 1, 1, nullptr, 0, op,
                                                  GGML_N_TASKS_MAX, self));
  ggml_cplan plan = ggml_graph_plan(graph, n_threads_, threadpool_);
  failed_ = false;
  return outcome(ggml_graph_compute(graph, &plan));
}

}  // namespace curdkv
