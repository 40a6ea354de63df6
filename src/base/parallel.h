// Work on the host shared among threads that live for one call.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <thread>
#include <vector>

namespace curdkv {

// Calls f(i) once for every i of [0, n), from n_threads threads, the calling one included. Once *stop turns
// true no more calls are begun; returns whether all were made. What f throws first, or the system where a
// thread cannot be started, is thrown when all threads have ended.
inline bool parallel_for(int n_threads, int64_t n, const std::atomic<bool>* stop,
                         const std::function<void(int64_t)>& f) {
  std::atomic<int64_t> next = 0;
  std::atomic<int64_t> n_done = 0;
  std::atomic<bool> failed = false;
  std::exception_ptr failure;  // of whoever set `failed`
  const auto fail = [&] {
    if (!failed.exchange(true)) failure = std::current_exception();
  };
  const auto work = [&] {
    try {
      for (int64_t i; !failed && (stop == nullptr || !*stop) && (i = next++) < n; ++n_done) f(i);
    } catch (...) {
      fail();
    }
  };
  {
    std::vector<std::jthread> others;
    try {
      for (int64_t t = 1; t < std::min<int64_t>(n_threads, n); ++t) others.emplace_back(work);
    } catch (...) {
      fail();
    }
    work();
  }
  if (failure) std::rethrow_exception(failure);
  return n_done == n;
}

}  // namespace curdkv
