// Seeded random numbers that are the same on every platform.
#pragma once

#include <cstdint>
#include <vector>

namespace curdkv {

// Matrices number first to first + n - 1, F32 [d, rank] with entries N(0, 1), one after the other; each
// depends on the seed, the layer and its own number alone.
std::vector<float> gaussian_matrices(uint64_t seed, int64_t il, int64_t d, int64_t rank, int64_t first,
                                     int64_t n);

}  // namespace curdkv
