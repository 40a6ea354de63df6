// Pages of memory that go back to the system when they are freed, or given up from the end.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <string>
#include <utility>

#include "curdkv/result.h"

namespace curdkv {

class Pages {
 public:
  Pages() = default;
  // All zero. Errors: out_of_memory, naming `what`.
  static Result<Pages> allocate(size_t n_bytes, const std::string& what) {
    Pages pages;
    pages.n_bytes_ = whole_pages(n_bytes);
    if (pages.n_bytes_ == 0) return pages;
    void* at = mmap(nullptr, pages.n_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) return Error{ErrorCode::out_of_memory, "not enough memory for " + what};
    pages.data_ = static_cast<char*>(at);
    return pages;
  }
  Pages(Pages&& o) noexcept
      : data_(std::exchange(o.data_, nullptr)), n_bytes_(std::exchange(o.n_bytes_, 0)) {}
  Pages& operator=(Pages&& o) noexcept {
    std::swap(data_, o.data_);
    std::swap(n_bytes_, o.n_bytes_);
    return *this;
  }
  ~Pages() { cut(0); }

  char* data() const { return data_; }
  size_t n_bytes() const { return n_bytes_; }

  // Keeps the first n bytes' pages.
  void cut(size_t n_bytes) noexcept {
    const size_t kept = whole_pages(n_bytes);
    if (kept >= n_bytes_) return;
    munmap(data_ + kept, n_bytes_ - kept);
    n_bytes_ = kept;
    if (kept == 0) data_ = nullptr;
  }

 private:
  static size_t whole_pages(size_t n) {
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    return (n + page - 1) / page * page;
  }
  char* data_ = nullptr;
  size_t n_bytes_ = 0;
};

}  // namespace curdkv
