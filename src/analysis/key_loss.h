// What a single key is worth to the attention's output (figure 1 of the CurDKV paper).
#pragma once

#include <atomic>
#include <vector>

#include "analysis/layer_rows.h"

namespace curdkv::analysis {

struct KeyLoss {
  std::vector<double> attention;  // that each key got on average from the queries that see it
  // || softmax(Q K^T) V - softmax(Q K'^T) V' ||_F, causal, with K', V' lacking that one key and value. A
  // query that then sees nothing has an output of 0.
  std::vector<double> loss;
};

// For every key of one query head; in double precision, a few queries at a time, so that memory is linear in
// the tokens. Meaningless once *stop.
KeyLoss key_losses(const LayerRows& rows, int64_t head, const std::atomic<bool>* stop = nullptr);

}  // namespace curdkv::analysis
