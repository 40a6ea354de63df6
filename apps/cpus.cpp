#include "cpus.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <thread>
#include <vector>

namespace curdkv::app {
namespace {

int allowed_by_affinity() {
  // Machines with more processors than the set has room for are asked again with a larger one.
  for (int n = 1024; n <= 1 << 16; n *= 2) {
    cpu_set_t* set = CPU_ALLOC(n);
    if (set == nullptr) break;
    const size_t bytes = CPU_ALLOC_SIZE(n);
    const int count = sched_getaffinity(0, bytes, set) == 0 ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    if (count > 0) return count;
  }
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

// Processors' worth of time that the group at `folder` has, by either version's files; 0: no limit.
double quota_at(const std::string& folder) {
  double quota = 0, period = 0;
  std::string text;
  if (std::ifstream v2(folder + "/cpu.max"); v2 >> text >> period) {
    quota = text == "max" ? 0 : std::atof(text.c_str());
  } else {
    std::ifstream(folder + "/cpu.cfs_quota_us") >> quota;
    std::ifstream(folder + "/cpu.cfs_period_us") >> period;
  }
  return quota > 0 && period > 0 ? quota / period : 0;
}

// A group's limit holds for all groups below it, so the least on the way up counts.
double least_quota(const std::string& mount, std::string group) {
  double least = 0;
  while (true) {
    if (const double q = quota_at(mount + group); q > 0) least = least > 0 ? std::min(least, q) : q;
    if (group.empty() || group == "/") return least;
    group.erase(group.rfind('/'));
  }
}

bool has_cpu(const std::string& controllers) {  // ":cpu,cpuacct:"
  const auto ends = [&](size_t i) { return controllers[i] == ',' || controllers[i] == ':'; };
  for (size_t at = controllers.find("cpu"); at != std::string::npos; at = controllers.find("cpu", at + 1)) {
    if (ends(at - 1) && ends(at + 3)) return true;
  }
  return false;
}

double quota_of_groups(const std::string& root) {
  // Lines "ID:CONTROLLERS:PATH"; version 2 has one, with ID 0 and no controllers.
  std::ifstream groups(root + "/proc/self/cgroup");
  double least = 0;
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first, second - first) + ":";  // ":cpu,cpuacct:"
    std::vector<std::string> mounts;
    if (controllers == "::") {
      mounts = {root + "/sys/fs/cgroup", root + "/sys/fs/cgroup/unified"};
    } else if (has_cpu(controllers)) {
      mounts = {root + "/sys/fs/cgroup/cpu", root + "/sys/fs/cgroup/cpu,cpuacct"};
    }
    for (const std::string& mount : mounts) {
      if (const double q = least_quota(mount, line.substr(second + 1)); q > 0)
        least = least > 0 ? std::min(least, q) : q;
    }
  }
  return least;
}

}  // namespace

int Cpus::usable() const {
  return quota > 0 ? std::clamp(static_cast<int>(std::ceil(std::min(quota, 1e6))), 1, allowed) : allowed;
}

std::string Cpus::describe() const {
  char out[96];
  const int there = std::max(allowed, static_cast<int>(std::thread::hardware_concurrency()));
  const int n = std::snprintf(out, sizeof out, "%d of %d allowed", allowed, there);
  if (quota > 0) std::snprintf(out + n, sizeof out - static_cast<size_t>(n), ", quota %.4g", quota);
  return out;
}

Cpus usable_cpus(const std::string& root) {
  return {allowed_by_affinity(), quota_of_groups(root)};
}

}  // namespace curdkv::app
