// What a reading keeps for one press whose rows are packed: layer by layer, each laid out at once; or, where
// one budget of bytes goes over all layers, encoded and cut as further layers come, and laid out at the end.
#pragma once

#include <optional>
#include <vector>

#include "engine/row_packing.h"
#include "press/byte_budget.h"

namespace curdkv {

class PackedReading {
 public:
  // shapes: of all layers, which must outlive this.
  PackedReading(const Press& press, std::span<const CacheShape> shapes, int64_t n_tokens, int64_t n_question,
                int64_t first_position);

  // Keeps of the next layer what the press says.
  Result<void> add(Compute& compute, const LayerKv& kv, LayerScores& scores, KvBlock& block);
  // After the last layer.
  Result<void> finish(Compute& compute, KvBlock& block);
  size_t n_bytes() const;  // held, beside the block

 private:
  Result<KeptTokens> select(LayerScores& scores, int64_t il, std::span<const EncodedHead> heads) const;
  Result<void> order(LayerScores& scores, const CacheShape& shape, std::vector<EncodedHead>& heads);
  double f16_bytes() const;  // of the context in all layers
  double room() const;       // of these, what may be kept

  const Press& press_;
  std::span<const CacheShape> shapes_;
  int64_t n_tokens_, n_question_, first_position_;
  std::optional<ByteBudget> budget_;
  std::vector<std::vector<EncodedHead>> layers_;  // waiting for the last
  int64_t il_ = 0;
};

}  // namespace curdkv
