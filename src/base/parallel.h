// Work on the host shared among threads that live for one call.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace curdkv {

// Calls f(i) once for every i of [0, n), from n_threads threads, the calling one included. Once *stop turns
// true no more calls are begun; returns whether all were made. f must not throw.
inline bool parallel_for(int n_threads, int64_t n, const std::atomic<bool>* stop,
                         const std::function<void(int64_t)>& f) {
  std::atomic<int64_t> next = 0;
  std::atomic<int64_t> n_done = 0;
  const auto work = [&] {
    for (int64_t i; (stop == nullptr || !*stop) && (i = next++) < n; ++n_done) f(i);
  };
  std::vector<std::jthread> others;
  for (int64_t t = 1; t < std::min<int64_t>(n_threads, n); ++t) others.emplace_back(work);
  work();
  others.clear();
  return n_done == n;
}

}  // namespace curdkv
