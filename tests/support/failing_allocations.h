// Lets allocations of this program fail: what C++ asks for, and what the C code linked into it does (by the
// linker's
// --wrap, see tests/CMakeLists.txt). One may live at a time; it counts over all threads.
#pragma once

namespace curdkv::testing {

class FailingAllocations {
 public:
  // From now on the first-th allocation fails, counted from 1, or all from that one on.
  FailingAllocations(long first, bool all_from_there);
  ~FailingAllocations();
  FailingAllocations(const FailingAllocations&) = delete;
  FailingAllocations& operator=(const FailingAllocations&) = delete;

  long n_made() const;
  bool failed() const;  // any
};

}  // namespace curdkv::testing
