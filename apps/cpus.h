// How many processors this process may use, which is seldom what the machine has: containers, batch systems
// and taskset give fewer.
#pragma once

#include <string>

namespace curdkv::app {

struct Cpus {
  int allowed = 1;     // by the process's affinity
  double quota = 0;    // processors' worth of time that its control groups grant; 0: no limit
  int usable() const;  // threads that make sense: the smaller of both, a begun processor counting as one
  std::string describe() const;  // "2 of 8 allowed, quota 1.5"
};

// root: where the file system begins, for tests.
Cpus usable_cpus(const std::string& root = "");

}  // namespace curdkv::app
