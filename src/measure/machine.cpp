#include "measure/machine.h"

#include <algorithm>
#include <atomic>
#include <numeric>
#include <thread>

#include "base/stopwatch.h"
#include "compute/bf16_tiles.h"
#include "compute/products/kernel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "measure/machine.cpp"
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace curdkv::measure {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Or of n words; eight vectors are in flight at a time, and memory is asked for early. n: a multiple of 128.
uint64_t ReadAll(const uint64_t* data, size_t n) {
  const hn::ScalableTag<uint64_t> d;
  const size_t lanes = hn::Lanes(d);
  constexpr size_t kAhead = 1024;  // words: as far as products look ahead
  hn::Vec<decltype(d)> seen[8];
  for (auto& s : seen) s = hn::Zero(d);
  for (size_t i = 0; i < n; i += 8 * lanes) {
    for (size_t j = 0; j < 8 * lanes; j += 8) hwy::Prefetch(data + i + j + kAhead);
    for (size_t j = 0; j < 8; ++j) seen[j] = hn::Or(seen[j], hn::LoadU(d, data + i + j * lanes));
  }
  for (size_t j = 1; j < 8; ++j) seen[0] = hn::Or(seen[0], seen[j]);
  alignas(64) uint64_t out[64];
  hn::StoreU(seen[0], d, out);
  return out[0];
}

// Twelve independent chains of n fused multiply-adds; returns how many operations that were.
double MultiplyAdd(int64_t n, float* out) {
  const hn::ScalableTag<float> d;
  hn::Vec<decltype(d)> sum[12];
  for (auto& s : sum) s = hn::Set(d, out[0]);
  const auto a = hn::Set(d, out[1]), b = hn::Set(d, out[2]);
  for (int64_t i = 0; i < n; ++i) {
    for (auto& s : sum) s = hn::MulAdd(s, a, b);
  }
  for (int j = 1; j < 12; ++j) sum[0] = hn::Add(sum[0], sum[j]);
  hn::StoreU(sum[0], d, out);
  return 2.0 * 12 * static_cast<double>(n) * static_cast<double>(hn::Lanes(d));
}

// The same of pairs of 16-bit integers, of which each chain multiplies its own sums.
double MultiplyPairs(int64_t n, int32_t* out) {
#if HWY_TARGET == HWY_SCALAR
  (void)n, (void)out;
  return 0;
#else
  const hn::ScalableTag<int32_t> d;
  const hn::Repartition<int16_t, decltype(d)> d16;
  hn::Vec<decltype(d)> sum[12];
  for (auto& s : sum) s = hn::Set(d, out[0]);
  const auto a = hn::Set(d16, static_cast<int16_t>(out[1]));
  auto second = hn::Zero(d);  // some sets add half of the products here
  for (int64_t i = 0; i < n; ++i) {
    for (auto& s : sum) s = hn::ReorderWidenMulAccumulate(d, hn::BitCast(d16, s), a, s, second);
  }
  for (int j = 1; j < 12; ++j) sum[0] = hn::Add(sum[0], sum[j]);
  hn::StoreU(hn::Add(sum[0], second), d, out);
  return 2.0 * 12 * static_cast<double>(n) * static_cast<double>(hn::Lanes(d16));
#endif
}

}  // namespace HWY_NAMESPACE
}  // namespace curdkv::measure
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace curdkv::measure {

HWY_EXPORT(ReadAll);
HWY_EXPORT(MultiplyAdd);
HWY_EXPORT(MultiplyPairs);

namespace {

constexpr size_t kStep = 128;  // words, of which a thread's share is a multiple

// Milliseconds in which n_threads threads, started together, are all done with work(thread).
template <typename F>
double timed_once(int n_threads, const F& work) {
  std::atomic<int> n_ready = 0;
  std::atomic<bool> go = false;
  std::vector<std::thread> threads;
  for (int i = 0; i < n_threads; ++i) {
    threads.emplace_back([&, i] {
      ++n_ready;
      while (!go) std::this_thread::yield();
      work(i);
    });
  }
  while (n_ready < n_threads) std::this_thread::yield();
  const Stopwatch watch;
  go = true;
  for (std::thread& t : threads) t.join();
  return watch.ms();
}

// The best of three, as new threads may have to share a processor before each has one.
template <typename F>
double timed(int n_threads, const F& work) {
  double least = timed_once(n_threads, work);
  for (int i = 1; i < 3; ++i) least = std::min(least, timed_once(n_threads, work));
  return least;
}

}  // namespace

Machine::Machine(int n_threads, size_t n_bytes) : n_threads_(n_threads) {
  const size_t share =
      std::max<size_t>(n_bytes / sizeof(uint64_t) / static_cast<size_t>(n_threads) / kStep, 1);
  data_.assign(share * kStep * static_cast<size_t>(n_threads), 1);
}

double Machine::read_gb_s() const {
  const size_t share = data_.size() / static_cast<size_t>(n_threads_);
  const size_t bytes = data_.size() * sizeof(uint64_t);
  const auto n_passes = static_cast<int>(1 + (size_t{1} << 30) / bytes);
  std::atomic<uint64_t> sink = 0;
  const double ms = timed(n_threads_, [&](int i) {
    for (int pass = 0; pass < n_passes; ++pass) {
      sink |= HWY_DYNAMIC_DISPATCH(ReadAll)(data_.data() + static_cast<size_t>(i) * share, share);
    }
  });
  return static_cast<double>(bytes) * n_passes / ms / 1e6;
}

// By n_threads threads, each of which says how many operations it has done.
template <typename F>
static double gops(int n_threads, const F& work) {
  std::vector<double> n_operations(static_cast<size_t>(n_threads));
  const double ms = timed(n_threads, [&](int i) { n_operations[static_cast<size_t>(i)] = work(); });
  return std::accumulate(n_operations.begin(), n_operations.end(), 0.0) / ms / 1e6;
}

double Machine::f32_gflops() const {
  return gops(n_threads_, [] {
    float state[64] = {1.0f, 0.999f, 0.001f};
    return HWY_DYNAMIC_DISPATCH(MultiplyAdd)(2'000'000, state);
  });
}

double Machine::int16_gops() const {
  return gops(n_threads_, [] {
    int32_t state[64] = {1, 3};
    return HWY_DYNAMIC_DISPATCH(MultiplyPairs)(2'000'000, state);
  });
}

double Machine::int8_gops() const {
  return gops(n_threads_, [] { return dot_int8(2'000'000); });
}

double Machine::bf16_gops() const {
  const Bf16Tiles* tiles = amx_tiles();
  return tiles == nullptr ? 0 : gops(n_threads_, [&] { return multiply_blocks(*tiles, 100'000); });
}

double Machine::products_gops(const Cost& cost, PrefillKernel kernel) const {
  const bool by_tiles = kernel == PrefillKernel::automatic || kernel == PrefillKernel::amx;
  return std::max({f32_gflops(), int16_gops(), cost.is_quantised() ? int8_gops() : 0,
                   by_tiles && cost.fits_bf16() ? bf16_gops() : 0});
}

}  // namespace curdkv::measure
#endif  // HWY_ONCE
