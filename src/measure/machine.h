// What the machine can do at most, measured: the bars that the figures of a benchmark are held against.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "curdkv/executor.h"
#include "measure/cost.h"

namespace curdkv::measure {

class Machine {
 public:
  // n_bytes: how much read_gb_s() reads, so that it comes from where the work's own data comes from (a cache
  // that is large enough may hold it all).
  Machine(int n_threads, size_t n_bytes);

  // Every call measures anew, three times for some tens of milliseconds, with all threads at once.
  double read_gb_s() const;   // 10^9 bytes a second, each byte read once in order
  double f32_gflops() const;  // 10^9 multiplications and additions a second, fused, of values in registers
  double int16_gops() const;  // the same of pairs of 16-bit integers, as attention has them
  double int8_gops() const;   // the same of dot products in 8 bits; 0: our kernels have none here
  double bf16_gops() const;   // the same of blocks in AMX's BF16; 0: it cannot be used here

  // The most of these that are of use to a model's products and attention, by this kernel in a prefill.
  double products_gops(const Cost& cost, PrefillKernel kernel) const;

 private:
  int n_threads_;
  std::vector<uint64_t> data_;
};

}  // namespace curdkv::measure
