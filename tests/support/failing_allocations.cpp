#include "support/failing_allocations.h"

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <new>

namespace {

std::atomic<long> made{0}, missed{0};
std::atomic<long> first_to_fail{0};  // 0: none
std::atomic<bool> counting{false}, all_from_there{false};

bool fails() {
  if (!counting) return false;
  const long n = ++made, first = first_to_fail;
  if (first == 0 || n < first || (n > first && !all_from_there)) return false;
  ++missed;
  errno = ENOMEM;
  return true;
}

}  // namespace

extern "C" {
void* __real_malloc(size_t);
void* __real_calloc(size_t, size_t);
void* __real_realloc(void*, size_t);
int __real_posix_memalign(void**, size_t, size_t);

void* __wrap_malloc(size_t n) {
  return fails() ? nullptr : __real_malloc(n);
}
void* __wrap_calloc(size_t n, size_t size) {
  return fails() ? nullptr : __real_calloc(n, size);
}
void* __wrap_realloc(void* p, size_t n) {
  return fails() ? nullptr : __real_realloc(p, n);
}
int __wrap_posix_memalign(void** p, size_t alignment, size_t n) {
  return fails() ? ENOMEM : __real_posix_memalign(p, alignment, n);
}
}

void* operator new(size_t n) {
  if (void* p = std::malloc(n > 0 ? n : 1)) return p;
  throw std::bad_alloc();
}
void* operator new(size_t n, std::align_val_t alignment) {
  void* p = nullptr;
  if (posix_memalign(&p, static_cast<size_t>(alignment), n > 0 ? n : 1) == 0) return p;
  throw std::bad_alloc();
}
// A sanitizer's own would not count, and would not match what frees here.
void* operator new(size_t n, const std::nothrow_t&) noexcept {
  return std::malloc(n > 0 ? n : 1);
}
void* operator new(size_t n, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  void* p = nullptr;
  return posix_memalign(&p, static_cast<size_t>(alignment), n > 0 ? n : 1) == 0 ? p : nullptr;
}
void operator delete(void* p) noexcept {
  std::free(p);
}
void operator delete(void* p, size_t) noexcept {
  std::free(p);
}
void operator delete(void* p, std::align_val_t) noexcept {
  std::free(p);
}
void operator delete(void* p, size_t, std::align_val_t) noexcept {
  std::free(p);
}

namespace curdkv::testing {

FailingAllocations::FailingAllocations(long first, bool all) {
  made = missed = 0;
  first_to_fail = first;
  all_from_there = all;
  counting = true;
}
FailingAllocations::~FailingAllocations() {
  counting = false;
}
long FailingAllocations::n_made() const {
  return made;
}
bool FailingAllocations::failed() const {
  return missed > 0;
}

}  // namespace curdkv::testing
