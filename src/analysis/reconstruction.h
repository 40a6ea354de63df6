// How well what a press keeps reconstructs attention (figure 2 of the CurDKV paper), the bound of its lemma
// 3.1, and low-rank approximations of keys and values beside it (section 3.1).
#pragma once

#include <atomic>
#include <functional>
#include <span>

#include "analysis/layer_rows.h"
#include "press/allocation.h"

namespace curdkv::analysis {

// Frobenius norms of one query head, causal attention with the model's own queries.
struct HeadNorms {
  double qk = 0;      // ||Q K^T||, scaled as the attention scales it, over the pairs that see each other
  double output = 0;  // ||softmax(Q K^T) V||
};
struct HeadLoss {
  double qk = 0;      // ||Q K^T - Q K'^T||, K' with rows of zeros for evicted keys
  double output = 0;  // ||softmax(Q K^T) V - softmax(Q K_kept^T) V_kept||: evicted keys are gone
  // The same as the lemma has it: evicted keys are zeros, which still take attention, and values are zeros.
  double output_zeroed = 0;
  // sqrt(n) (||V - V'|| + 2 ||V'||), no less than the other two: both replace softmax(Q K^T) by a matrix
  // whose rows are of non-negative numbers that sum to at most 1.
  double bound = 0;
};

struct Reconstruction {
  std::vector<HeadNorms> norms;             // [n_head]
  std::vector<std::vector<HeadLoss>> loss;  // [selection][n_head]
};

// selections[i][KV head]: tokens kept. Time n^2, memory n. progress: told the share of the work that is done.
// Errors: cancelled.
Result<Reconstruction> reconstruct(const LayerRows& rows, std::span<const KeptTokens> selections,
                                   int n_threads, const std::atomic<bool>* stop = nullptr,
                                   const std::function<void(double)>& progress = {});

// Relative Frobenius errors of approximating one KV head's keys and values by rank k: the best there is, and
// the CUR decomposition from k rows and k columns of the highest leverage. One for each of the ranks.
struct LowRank {
  double keys_svd = 0, keys_cur = 0, values_svd = 0, values_cur = 0;
};
Result<std::vector<LowRank>> low_rank(const LayerRows& rows, int64_t head_kv, std::span<const int64_t> ranks);

}  // namespace curdkv::analysis
