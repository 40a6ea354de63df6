// A context's bytes with hashes that are right again, whatever was done to them: what is to be found wrong
// then is not damage.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "base/descriptor.h"
#include "base/try.h"
#include "model/gguf_file.h"
#include "store/checksum.h"

namespace curdkv::testing {

// A file in memory, with a path as long as it lives.
class MemoryFile {
 public:
  explicit MemoryFile(std::string_view bytes) : file_(memfd_create("context", MFD_CLOEXEC)) {
    for (size_t at = 0; at < bytes.size();) {
      const ssize_t n = write(file_.get(), bytes.data() + at, bytes.size() - at);
      if (n <= 0) break;
      at += static_cast<size_t>(n);
    }
  }
  std::string path() const { return "/proc/self/fd/" + std::to_string(file_.get()); }

 private:
  Descriptor file_;
};

// Errors: as of GgufFile::open; corrupt where there is no room for the hashes.
inline Result<std::string> with_right_hashes(std::string bytes) {
  const MemoryFile in_memory(bytes);
  CURDKV_TRY(const GgufFile file, GgufFile::open(in_memory.path()));
  const size_t n = file.tensors().size(), header = gguf_get_data_offset(file.metadata());
  if (n == 0 || file.tensors().back().n_bytes != 8 * (n + 1) || header > bytes.size())
    return file.corrupt("has no checksums");
  const size_t sums = file.tensors().back().offset;
  const auto put = [&](size_t i, size_t begin, size_t end) {
    const uint64_t x = checksum(std::string_view(bytes).substr(begin, end - begin));
    std::memcpy(bytes.data() + sums + 8 * i, &x, 8);
  };
  put(0, 0, header);
  for (size_t i = 0; i + 1 < n; ++i) put(i + 1, file.tensors()[i].offset, file.tensors()[i + 1].offset);
  put(n, sums, sums + 8 * n);
  return bytes;
}

}  // namespace curdkv::testing
