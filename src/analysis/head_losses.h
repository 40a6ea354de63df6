// What answers lose with every KV head: measured once for a model, it tells how one budget of bytes is best
// shared out among heads (press/head_weights.h). The heads that matter are few: those that find again what is
// asked for (Wu et al., "Retrieval Head Mechanistically Explains Long-Context Factuality", 2024).
#pragma once

#include <atomic>
#include <functional>
#include <span>
#include <vector>

#include "analysis/lookups.h"
#include "curdkv/engine.h"

namespace curdkv::analysis {

// [layer][KV head] throughout.
using PerHead = std::vector<std::vector<double>>;

struct HeadLosses {
  // KL divergence of the answer's predictions, nats a token, where a head has lost the text but for its
  // first 4 and its last twentieth of tokens; the mean over lookups, whose losses count alike: those of each
  // are divided by their sum over all heads.
  PerHead loss;
  // Sum over the lost rows of what ByteShare says that they are worth, squared; the mean over lookups.
  PerHead worth;
};

// Errors: as of Executor::read; bad_input if the model answers none of the questions, whatever it holds.
Result<HeadLosses> measure_head_losses(Executor& executor, const Engine& engine,
                                       std::span<const Lookup> lookups, const Progress& progress);

// How much each head's rows are to count: loss^(3/4) / worth^(1/4), 1 in the middle. (Worth alone foretells
// what a head's rows add to a layer's output; losing them need not be noticed.)
std::vector<std::vector<float>> head_weights_of(const HeadLosses& losses);

}  // namespace curdkv::analysis
