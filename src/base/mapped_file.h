// A file whose content is taken to stay as it is, read by pread() or mapped into memory.
// Where a mapped file is cut short, touching what is gone raises SIGBUS. The library sets no signal handlers;
// a program that catches SIGBUS and calls repair_mapped_file() gets an error from check() instead of an end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/descriptor.h"
#include "curdkv/result.h"

namespace curdkv {

class MappedFile {
 public:
  // Opens, without mapping. Errors: io if the path is no readable regular file, corrupt if it is empty.
  static Result<MappedFile> open(const std::string& path);

  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept { swap(other); }
  MappedFile& operator=(MappedFile&& other) noexcept {
    swap(other);
    return *this;
  }
  ~MappedFile();

  const std::string& path() const { return path_; }
  size_t size() const { return size_; }

  // Errors: io, or corrupt if the file has become shorter.
  Result<void> read(void* into, size_t offset, size_t n) const;
  Result<void> map();                   // errors: io
  char* data() const { return data_; }  // null until mapped

  // Takes the mapped pages that lie whole within n bytes from `offset` out of the process's memory; they are
  // read from the file again when they are next looked at.
  void give_back(size_t offset, size_t n) const;

  // Whether the file still is what was opened: as long, not written to since, and, as far as it was mapped,
  // read without a fault.
  // Errors: corrupt.
  Result<void> check() const;
  bool faulted() const;  // the last alone

 private:
  void swap(MappedFile& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(file_, other.file_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(written_ns_, other.written_ns_);
    std::swap(slot_, other.slot_);
  }
  std::string path_;
  Descriptor file_;
  char* data_ = nullptr;
  size_t size_ = 0;
  int64_t written_ns_ = 0;  // when it was last written to
  int slot_ = -1;           // in the list that repair_mapped_file() looks into
};

// For a handler of SIGBUS, with the address that could not be read: if it lies in a mapped file, zeros are
// put there and from there to the file's end, the file is marked as faulted, and the result is true: the
// handler may return. Safe in a signal handler.
bool repair_mapped_file(void* address);

}  // namespace curdkv
