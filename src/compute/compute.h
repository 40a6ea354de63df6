// The backends, CPU threads and scheduler of one executor, and the graph they currently hold.
// One graph exists at a time: begin() forgets the last one.
#pragma once

#include <ggml-backend.h>
#include <ggml-cpu.h>
#include <ggml.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <vector>

#include "base/scratch.h"
#include "base/tickets.h"
#include "curdkv/result.h"
#include "model/weights.h"

namespace curdkv {

// What one of the threads that run a custom operation is given.
struct OpThread {
  int ith, nth;   // this thread, of so many
  char* scratch;  // its own, as many bytes as the operation asked for, aligned for Scratch
};

class Compute {
 public:
  // max_nodes: of a graph. stop: when it turns true, running graphs end with ErrorCode::cancelled; may be
  // null, must outlive this.
  static Result<std::unique_ptr<Compute>> create(const Weights& weights, int n_threads, size_t max_nodes,
                                                 const std::atomic<bool>* stop);
  ~Compute();

  // Graphs of so many nodes will be asked for: the next begin() has room for them.
  void reserve_nodes(size_t n) { n_nodes_wanted_ = std::max(n_nodes_wanted_, n); }

  // Context for the tensors of a new graph, and the graph.
  Result<ggml_context*> begin();
  ggml_context* context() { return held_->context.get(); }
  ggml_cgraph* graph() { return graph_; }

  // A node, of type `type` and shape `ne`, that every thread computes by calling op(dst, OpThread) of an Op
  // made from `args`. scratch_bytes: what each thread needs beside its tensors. It is there before the graph
  // runs: operations allocate nothing themselves. What a library throws in one all the same becomes run()'s
  // Error.
  template <typename Op, typename... Args>
  ggml_tensor* custom(ggml_type type, std::array<int64_t, 4> ne, std::span<ggml_tensor* const> sources,
                      size_t scratch_bytes, Args&&... args) {
    scratch_wanted_ = std::max(scratch_wanted_, scratch_bytes);
    const std::shared_ptr<Custom<Op>> node(new Custom<Op>{*this, Op{std::forward<Args>(args)...}});
    held_->custom.push_back(node);
    return ggml_custom_4d(context(), type, ne[0], ne[1], ne[2], ne[3],
                          const_cast<ggml_tensor**>(sources.data()), static_cast<int>(sources.size()),
                          Custom<Op>::run, GGML_N_TASKS_MAX, node.get());
  }

  // op(piece) for each of n pieces, which threads take as they get done with the last, at once: graphs take
  // longer to begin, and are left as they are. What op throws becomes an Error.
  template <typename Op>
  Result<void> run_pieces(int64_t n, const Op& op) {
    Custom<Pieces<Op>> node = {*this, {n, op}};
    return run_node(Custom<Pieces<Op>>::run, &node);
  }

  Result<void> allocate();  // memory for the graph; inputs can be set afterwards
  Result<void> run();       // may be called again with other inputs

  // Whose graph it is that can be run again: until the next begin(), or a run that fails.
  void keep_graph_for(const void* owner) { owner_ = owner; }
  bool holds_graph_of(const void* owner) const { return owner_ == owner && busy_ == Busy::no; }

  int n_threads() const { return n_threads_; }
  // A flag that ends graphs beside that of create(), until another is set; may be null.
  void set_stop(const std::atomic<bool>* stop) { stop_now_ = stop; }
  bool cancelled() const { return is_set(stop_) || is_set(stop_now_); }

  // Sets an input tensor's data; tensors the graph turned out not to need have no memory and are skipped.
  template <typename T>
  static void set(ggml_tensor* tensor, const std::vector<T>& data) {
    if (tensor->buffer != nullptr) ggml_backend_tensor_set(tensor, data.data(), 0, data.size() * sizeof(T));
  }

 private:
  template <typename Op>
  struct Custom {
    Compute& compute;
    Op op;

    static void run(ggml_tensor* dst, int ith, int nth, void* self) {
      auto& node = *static_cast<Custom*>(self);
      try {
        node.op(dst, OpThread{ith, nth, node.compute.scratch_of(ith)});
      } catch (...) {
        node.compute.note_failure();
      }
    }
  };

  // Marks what ggml is at work on; an exception leaves the mark behind.
  enum class Busy { no, scheduling, running };

  template <typename Op>
  struct Pieces {
    int64_t n;
    const Op& op;
    Tickets tickets = {};
    void operator()(ggml_tensor*, const OpThread& thread) {
      for (int64_t i; (i = tickets.draw(n, thread.nth)) >= 0;) op(i);
    }
  };

  struct FreeAligned {
    void operator()(char* p) const { ::operator delete(p, std::align_val_t(Scratch::kAlignment)); }
  };

  // What the threads read and write while a graph runs.
  struct Held {
    std::vector<char> meta;  // tensor descriptions of the graph
    GgmlContext context;
    std::vector<std::shared_ptr<void>> custom;   // operations of the graph
    std::unique_ptr<char, FreeAligned> scratch;  // of all threads
    size_t scratch_stride = 0;                   // bytes of one thread
  };

  Compute() = default;
  static bool is_set(const std::atomic<bool>* flag) {
    return flag != nullptr && flag->load(std::memory_order_relaxed);
  }
  Result<void> start();
  void let_go();
  Result<void> make_ready();
  Result<void> reserve_scratch();
  char* scratch_of(int ith) const {
    if (held_ == nullptr) return nullptr;
    return held_->scratch.get() + static_cast<size_t>(ith) * held_->scratch_stride;
  }
  Result<void> run_node(ggml_custom_op_t op, void* self);
  void note_failure() noexcept;  // of the exception being handled
  Result<void> outcome(ggml_status status);

  std::vector<ggml_backend_dev_t> devices_;
  int n_threads_ = 1;
  std::vector<GgmlBackend> backends_;
  ggml_threadpool* threadpool_ = nullptr;
  GgmlSched sched_;
  Busy busy_ = Busy::no;
  std::unique_ptr<Held> held_;
  ggml_cgraph* graph_ = nullptr;
  size_t max_nodes_ = 0, n_nodes_wanted_ = 0;
  size_t scratch_wanted_ = 0;    // bytes of one thread, for the graph at hand
  const void* owner_ = nullptr;  // of the graph
  const std::atomic<bool>* stop_ = nullptr;
  const std::atomic<bool>* stop_now_ = nullptr;
  const MappedFile* weights_file_ = nullptr;  // null: nothing is read from a mapping

  std::optional<Error> lost_;        // an RPC server: nothing can be computed any more
  std::atomic<bool> failed_{false};  // a custom operation threw
  Error failure_ = {};               // what it said, of the first
};

}  // namespace curdkv
