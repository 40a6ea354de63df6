// A whole file mapped read-only into memory.
#pragma once

#include <cstddef>
#include <string>

#include "curdkv/result.h"

namespace curdkv {

class MappedFile {
 public:
  // Errors: bad_input if the path is no readable regular file or is empty.
  static Result<MappedFile> open(const std::string& path);

  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept { swap(other); }
  MappedFile& operator=(MappedFile&& other) noexcept {
    swap(other);
    return *this;
  }
  ~MappedFile();

  char* data() const { return data_; }
  // Takes the pages that lie whole within n bytes from `offset` out of the process's memory; they are read from
  // the file again when they are next looked at.
  void give_back(size_t offset, size_t n) const;
  size_t size() const { return size_; }

 private:
  void swap(MappedFile& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
  }
  char* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace curdkv
