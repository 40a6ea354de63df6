#include "io/input_file.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/descriptor.h"
#include "base/try.h"
#include "io/file_kind.h"

namespace curdkv {
namespace {

Error failed(const std::string& name, const std::string& why, ErrorCode code = ErrorCode::io) {
  return {code, name + ": " + why};
}

Error too_large(const std::string& name, size_t max_bytes) {
  return failed(name, "is too large: more than " + std::to_string(max_bytes >> 20) + " MiB",
                ErrorCode::bad_input);
}

}  // namespace

Result<std::string> read_descriptor(int file, const std::string& name, size_t max_bytes) {
  struct stat status = {};
  if (fstat(file, &status) != 0) return failed(name, std::strerror(errno));
  if (S_ISDIR(status.st_mode)) return failed(name, std::strerror(EISDIR));
  if (S_ISBLK(status.st_mode) || (S_ISCHR(status.st_mode) && isatty(file) == 0)) {
    return failed(name, "is a device, not a file");  // /dev/zero has no end
  }
  const bool regular = S_ISREG(status.st_mode);
  if (regular && static_cast<uint64_t>(status.st_size) > max_bytes) return too_large(name, max_bytes);
  std::string out;
  if (regular) out.reserve(static_cast<size_t>(status.st_size));
  std::string block(size_t{1} << 18, '\0');
  for (;;) {
    const ssize_t n = ::read(file, block.data(), std::min(block.size(), max_bytes + 1 - out.size()));
    if (n == 0 && S_ISFIFO(status.st_mode) && out.empty()) {
      // Nobody has opened the pipe for writing yet, or all who had are gone; only then it hangs up.
      pollfd waiting = {file, POLLIN, 0};
      if (poll(&waiting, 1, 50) == 0) continue;
      if ((waiting.revents & POLLIN) != 0) continue;
      return out;
    }
    if (n == 0) return out;
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      pollfd waiting = {file, POLLIN, 0};
      poll(&waiting, 1, -1);
      continue;
    }
    if (n < 0) return failed(name, std::strerror(errno));
    out.append(block.data(), static_cast<size_t>(n));
    if (out.size() > max_bytes) return too_large(name, max_bytes);
  }
}

Result<std::string> read_file(const std::string& path, size_t max_bytes) {
  // Not blocking: the file is looked at before anything waits for it.
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!file) return failed(path, std::strerror(errno));
  return read_descriptor(file.get(), path, max_bytes);
}

Result<std::string> as_text(std::string bytes, const std::string& name) {
  if (const auto kind = what_is(bytes)) return failed(name, *kind, ErrorCode::unsupported);
  if (bytes.starts_with("\xEF\xBB\xBF")) bytes.erase(0, 3);
  return bytes;
}

Result<std::string> read_text(const std::string& path, size_t max_bytes) {
  CURDKV_TRY(std::string bytes, read_file(path, max_bytes));
  return as_text(std::move(bytes), path);
}

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> out;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    out.push_back(line);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  return out;
}

}  // namespace curdkv
