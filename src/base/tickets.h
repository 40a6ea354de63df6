// Work shared out to the threads of an operation as they get done with the last piece.
#pragma once

#include <atomic>
#include <cstdint>

namespace curdkv {

class Tickets {
 public:
  // The next of n pieces, or -1 when all are taken. Each of n_threads threads calls it until it gets -1,
  // once; then all pieces are there to be taken again.
  int64_t draw(int64_t n, int n_threads) {
    const int64_t ticket = drawn_.fetch_add(1, std::memory_order_relaxed) % (n + n_threads);
    return ticket < n ? ticket : -1;
  }

 private:
  std::atomic<int64_t> drawn_{0};
};

}  // namespace curdkv
