// Milliseconds since construction, on the monotonic clock.
#pragma once

#include <chrono>

namespace curdkv {

class Stopwatch {
 public:
  double ms() const { return std::chrono::duration<double, std::milli>(Clock::now() - start_).count(); }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
};

}  // namespace curdkv
