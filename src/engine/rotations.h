// Rotary position embedding of single rows on the host: what pairs of elements are rotated by, from the
// model's own rotation of unit vectors, once for all layers.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "compute/compute.h"
#include "curdkv/result.h"
#include "model/hparams.h"

namespace curdkv {

// Rotations by some numbers of positions each.
class Rotations {
 public:
  // by: I32 positions. longer: lengths may change as the model's do; otherwise they are kept, as
  // when rows are rotated a second time (rotate_keeping_length()). rope_freqs may be null.
  static Result<Rotations> make(Compute& compute, const RopeParams& rope, ggml_tensor* rope_freqs,
                                std::vector<int32_t> by, bool longer);

  // Where a pair's elements are in a row, and rotation i's cosine and sine for it.
  int64_t n_pairs() const { return rope_.n_rot / 2; }
  int64_t first_of(int64_t pair) const { return halves() ? pair : 2 * pair; }
  int64_t second_of(int64_t pair) const { return halves() ? pair + n_pairs() : 2 * pair + 1; }
  float cos(int64_t i, int64_t pair) const { return turned(i)[first_of(pair)]; }
  float sin(int64_t i, int64_t pair) const { return turned(i)[second_of(pair)]; }

  // Rotates a row of at least n_rot elements by rotation i.
  void apply(int64_t i, float* row) const;

  const std::vector<int32_t>& by() const { return by_; }

 private:
  bool halves() const { return rope_.pairing == RopePairing::neox; }
  const float* turned(int64_t i) const { return turned_.data() + i * rope_.n_rot; }

  RopeParams rope_;
  std::vector<int32_t> by_;
  std::vector<float> turned_;  // [n_rot] each
};

// The last rotations that were asked for, of one model.
class RotationCache {
 public:
  Result<const Rotations*> keeping_length(Compute& compute, const RopeParams& rope, ggml_tensor* rope_freqs,
                                          const std::vector<int32_t>& by);

 private:
  std::optional<Rotations> last_;
};

}  // namespace curdkv
