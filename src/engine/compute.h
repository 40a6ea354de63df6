// The backends, CPU threads and scheduler of one session, and the graph they currently hold.
// One graph exists at a time: begin() forgets the last one and counts up epoch().
#pragma once

#include <ggml-backend.h>
#include <ggml-cpu.h>
#include <ggml.h>

#include <atomic>
#include <memory>
#include <vector>

#include "curdkv/result.h"
#include "model/weights.h"

namespace curdkv {

class Compute {
 public:
  // stop: when it turns true, running graphs end with ErrorCode::cancelled; may be null, must outlive this.
  static Result<std::unique_ptr<Compute>> create(const Weights& weights, int n_threads, size_t max_nodes,
                                                 const std::atomic<bool>* stop);
  ~Compute();

  // Context for the tensors of a new graph, and the graph.
  ggml_context* begin();
  ggml_context* context() { return context_.get(); }
  ggml_cgraph* graph() { return graph_; }

  // An object for operations that need more than their tensors; lives as long as the graph.
  template <typename T, typename... Args>
  T* keep(Args&&... args) {
    const std::shared_ptr<T> object(new T{std::forward<Args>(args)...});
    kept_.push_back(object);
    return object.get();
  }

  Result<void> allocate();  // memory for the graph; inputs can be set afterwards
  Result<void> run();       // may be called again with other inputs

  uint64_t epoch() const { return epoch_; }
  bool cancelled() const { return stop_ != nullptr && stop_->load(std::memory_order_relaxed); }

  // Sets an input tensor's data; tensors the graph turned out not to need have no memory and are skipped.
  template <typename T>
  static void set(ggml_tensor* tensor, const std::vector<T>& data) {
    if (tensor->buffer != nullptr) ggml_backend_tensor_set(tensor, data.data(), 0, data.size() * sizeof(T));
  }

 private:
  Compute() = default;

  std::vector<GgmlBackend> backends_;
  ggml_threadpool* threadpool_ = nullptr;
  GgmlSched sched_;
  std::vector<char> meta_;  // tensor descriptions of the graph
  size_t max_nodes_ = 0;
  GgmlContext context_;
  ggml_cgraph* graph_ = nullptr;
  std::vector<std::shared_ptr<void>> kept_;
  uint64_t epoch_ = 0;
  const std::atomic<bool>* stop_ = nullptr;
  const MappedFile* weights_file_ = nullptr;  // null: nothing is read from a mapping
};

}  // namespace curdkv
