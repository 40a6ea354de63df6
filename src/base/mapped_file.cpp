#include "base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace curdkv {

Result<MappedFile> MappedFile::open(const std::string& path) {
  const auto fail = [&](const std::string& why) { return Error{ErrorCode::bad_input, path + ": " + why}; };
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return fail(std::string("cannot be opened: ") + std::strerror(errno));
  struct stat st = {};
  MappedFile file;
  std::string why;
  if (fstat(fd, &st) != 0) {
    why = std::strerror(errno);
  } else if (S_ISDIR(st.st_mode)) {
    why = "is a directory, not a file";
  } else if (!S_ISREG(st.st_mode)) {
    why = "is not a regular file";
  } else if (st.st_size == 0) {
    why = "is empty";
  } else {
    file.size_ = static_cast<size_t>(st.st_size);
    void* data = mmap(nullptr, file.size_, PROT_READ, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED) {
      why = std::string("cannot be mapped: ") + std::strerror(errno);
      file.size_ = 0;
    } else {
      file.data_ = static_cast<char*>(data);
    }
  }
  close(fd);
  if (!why.empty()) return fail(why);
  return file;
}

void MappedFile::give_back(size_t offset, size_t n) const {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t first = (offset + page - 1) / page * page, end = (offset + n) / page * page;
  if (first < end) madvise(data_ + first, end - first, MADV_DONTNEED);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(data_, size_);
}

}  // namespace curdkv
