// chunk: whole chunks of neighbouring tokens, the same ones in every KV head, by their mean score over all
// heads. Liu et al., "ChunkKV: Semantic-Preserving KV Cache Compression for Efficient Long-Context LLM
// Inference", 2025 (arXiv 2502.00299); kvpress ChunkKVPress, which keeps int(n_chunks (1 - ratio)) chunks, at
// least one: so a head keeps up to two chunks more or less than its budget. A context of less than one chunk
// is taken token by token.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "press/entry.h"
#include "press/select.h"

namespace curdkv {
namespace {

class Chunk : public Selection {
 public:
  explicit Chunk(const ParamValues& v) : length_(v.get_int("chunk_length")) {}

  KeptTokens select(const Scores& scores, const Budget& budget) const override {
    const int64_t n = scores.n_tokens();
    if (n < length_) return best_of_each_head(scores, budget.n_kept);
    if (budget.n_kept == n) return best_of_each_head(scores, n);
    const int64_t n_chunks = (n + length_ - 1) / length_;
    Scores means(n_chunks, 1);
    for (int64_t c = 0; c < n_chunks; ++c) means.row(0)[static_cast<size_t>(c)] = mean_of(scores, c);
    // A hair above, as wanted is itself a rounded product.
    const double share = budget.wanted / static_cast<double>(n);
    const auto whole = static_cast<int64_t>(static_cast<double>(n_chunks) * share * (1 + 1e-12));
    const std::vector<int32_t> chunks = best_of_each_head(means, std::clamp<int64_t>(whole, 1, n_chunks))[0];
    std::vector<int32_t> tokens;
    for (int32_t c : chunks) {
      for (int64_t t = c * length_; t < std::min(n, (c + 1) * length_); ++t)
        tokens.push_back(static_cast<int32_t>(t));
    }
    return KeptTokens(static_cast<size_t>(scores.n_head()), tokens);
  }

  int64_t granularity() const override { return 2 * length_; }

 private:
  float mean_of(const Scores& scores, int64_t chunk) const {
    const int64_t first = chunk * length_, n = std::min(length_, scores.n_tokens() - first);
    double sum = 0;
    for (int64_t h = 0; h < scores.n_head(); ++h) {
      for (int64_t t = first; t < first + n; ++t) sum += scores.at(h, t);
    }
    return static_cast<float>(sum / static_cast<double>(n));
  }

  int64_t length_;
};

std::vector<PressParam> params() {
  return {int_param("chunk_length", 20, 1, 1 << 20, "tokens in a chunk")};
}

}  // namespace

extern const SelectionEntry chunk_selection = {
    "chunk", "whole chunks of tokens, by their mean score",
    "ChunkKV (arXiv 2502.00299); kvpress ChunkKVPress", params,
    [](const ParamValues& v) -> std::unique_ptr<Selection> { return std::make_unique<Chunk>(v); }};

}  // namespace curdkv
