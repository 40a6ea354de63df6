// Logits on their way out of a graph. A model whose numbers went bad (a damaged file, an overflow) is an
// error here, before anything false is said; all that reads logits reads them here.
#pragma once

#include <ggml.h>

#include <span>
#include <vector>

#include "curdkv/result.h"

namespace curdkv {

// The graph's nodes that build_logits() made.
struct LogitsNodes {
  ggml_tensor* normed = nullptr;  // F32 [n_embd, n]: what the output matrix is multiplied with
  ggml_tensor* logits = nullptr;  // F32 [n_vocab, n]
};

// Whether there is nothing among them that is none, NaN or infinite; one pass.
bool all_numbers(std::span<const float> x);

Error not_numbers();  // what is wrong if not

// Row `row` into `out`. Errors: corrupt if there is anything but numbers in it, or in what it was made
// from: products with quantised matrices may turn what is no number into one. `out` is then empty.
Result<void> read_logits(const LogitsNodes& nodes, int64_t row, std::vector<float>& out);

}  // namespace curdkv
