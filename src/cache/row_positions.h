// Where the rows that a KV head holds stood in the sequence, in little memory.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace curdkv {

// Ascending positions, as all are but those of keys that were turned back, are a set: a bit for each position
// from the first to the last, where that is less than four bytes a row.
class RowPositions {
 public:
  RowPositions() = default;
  explicit RowPositions(std::span<const int32_t> positions);

  std::vector<int32_t> unpacked() const;

  // As they are kept, in memory and in the file of a context: [0] the position of the first bit, [1] how many
  // words of bits follow, lowest bit first; 0: the positions follow as they are.
  std::span<const int32_t> words() const { return words_; }

  // Takes those of n rows from the front of what words() said of one head after another. Nothing, where that
  // is not what they say.
  static std::optional<RowPositions> take(std::span<const int32_t>& words, int64_t n);

 private:
  std::vector<int32_t> words_;
};

}  // namespace curdkv
