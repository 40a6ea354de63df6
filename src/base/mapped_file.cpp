#include "base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "base/try.h"

namespace curdkv {
namespace {

// Mapped ranges, for repair_mapped_file(): no locks, no memory that is freed. Files beyond these many are
// mapped all the same, and a fault in them ends the process.
struct Range {
  std::atomic<bool> taken{false}, faulted{false};
  std::atomic<uintptr_t> begin{0}, end{0};
};
std::array<Range, 64> ranges;

int list_range(uintptr_t begin, size_t n) {
  for (size_t i = 0; i < ranges.size(); ++i) {
    if (ranges[i].taken.exchange(true)) continue;
    ranges[i].faulted = false;
    ranges[i].end = begin + n;
    ranges[i].begin = begin;
    return static_cast<int>(i);
  }
  return -1;
}

void unlist_range(int slot) {
  if (slot < 0) return;
  Range& range = ranges[static_cast<size_t>(slot)];
  range.begin = range.end = 0;
  range.taken = false;
}

Error failed(const std::string& path, const std::string& why, ErrorCode code = ErrorCode::io) {
  return {code, path + ": " + why};
}

int64_t written_ns(const struct stat& status) {
  return int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec;
}

Error changed(const std::string& path) {
  return failed(path, "was cut short or replaced while in use; start again when it is whole",
                ErrorCode::corrupt);
}

}  // namespace

Result<MappedFile> MappedFile::open(const std::string& path) {
  MappedFile file;
  file.path_ = path;
  // Not blocking: a pipe that nobody writes to is looked at, not waited for.
  file.file_ = Descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  struct stat st = {};
  if (!file.file_) return failed(path, std::string("cannot be opened: ") + std::strerror(errno));
  if (fstat(file.file_.get(), &st) != 0) return failed(path, std::strerror(errno));
  if (S_ISDIR(st.st_mode)) return failed(path, "is a directory, not a file");
  if (!S_ISREG(st.st_mode)) return failed(path, "is not a regular file");
  if (st.st_size == 0) return failed(path, "is empty", ErrorCode::corrupt);
  file.size_ = static_cast<size_t>(st.st_size);
  file.written_ns_ = written_ns(st);
  return file;
}

void MappedFile::give_back(size_t offset, size_t n) const {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t first = (offset + page - 1) / page * page, end = (offset + n) / page * page;
  if (data_ != nullptr && first < end) madvise(data_ + first, end - first, MADV_DONTNEED);
}

Result<void> MappedFile::read(void* into, size_t offset, size_t n) const {
  auto* out = static_cast<char*>(into);
  while (n > 0) {
    const ssize_t got = ::pread(file_.get(), out, n, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failed(path_, std::string("cannot be read: ") + std::strerror(errno));
    if (got == 0) return changed(path_);
    out += got;
    offset += static_cast<size_t>(got);
    n -= static_cast<size_t>(got);
  }
  return {};
}

Result<void> MappedFile::map() {
  if (data_ != nullptr) return {};
  void* data = mmap(nullptr, size_, PROT_READ, MAP_SHARED, file_.get(), 0);
  if (data == MAP_FAILED) return failed(path_, std::string("cannot be mapped: ") + std::strerror(errno));
  data_ = static_cast<char*>(data);
  slot_ = list_range(reinterpret_cast<uintptr_t>(data), size_);
  return {};
}

bool MappedFile::faulted() const {
  return slot_ >= 0 && ranges[static_cast<size_t>(slot_)].faulted.load(std::memory_order_relaxed);
}

Result<void> MappedFile::check() const {
  struct stat st = {};
  if (faulted() || fstat(file_.get(), &st) != 0 || static_cast<size_t>(st.st_size) != size_ ||
      written_ns(st) != written_ns_) {
    return changed(path_);
  }
  return {};
}

MappedFile::~MappedFile() {
  unlist_range(slot_);
  if (data_ != nullptr) munmap(data_, size_);
}

bool repair_mapped_file(void* address) {
  const auto at = reinterpret_cast<uintptr_t>(address);
  const auto page_size = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  for (Range& range : ranges) {
    const uintptr_t begin = range.begin, end = range.end;
    if (at < begin || at >= end) continue;
    range.faulted = true;
    const uintptr_t page = at / page_size * page_size;
    return mmap(reinterpret_cast<void*>(page), end - page, PROT_READ, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS,
                -1, 0) != MAP_FAILED;
  }
  return false;
}

}  // namespace curdkv
