// Whether what products are made with is made of numbers. A damaged weight makes no number of what it
// touches, and a product with quantised weights may make a false number of that again: it rounds its input to
// integers. So inputs are looked at before, one token's, which costs nothing: a bad weight spoils every
// token's.
#pragma once

#include <atomic>

#include "model/layer_blocks.h"

namespace curdkv {

class NumberCheck {
 public:
  // The inputs' column that is looked at.
  explicit NumberCheck(int64_t column) : column_(column) {}

  // The same products, with a look at each input as the graph runs; on the CPU only. This must outlive the
  // run.
  Multiply watch(ggml_context* ctx, ggml_cgraph* graph, Multiply multiply);
  bool failed() const { return failed_.load(); }

 private:
  static void look(ggml_tensor* dst, int ith, int nth, void* userdata);

  int64_t column_;
  const ggml_tensor* last_ = nullptr;  // several products share an input
  std::atomic<bool> failed_ = false;
};

}  // namespace curdkv
