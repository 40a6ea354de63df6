#include "server/context_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "base/try.h"

namespace curdkv::server {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSuffix = ".kvc";

Error failed(const std::string& what, const std::string& path, int error) {
  return {ErrorCode::io, what + " " + path + ": " + std::strerror(error)};
}

Result<void> make_folder(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) == 0 || errno == EEXIST) return {};
  return failed("cannot make the folder", path, errno);
}

}  // namespace

bool is_id(const std::string& text) {
  return text.size() == 32 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

Result<ContextFolder> ContextFolder::open(const std::string& path) {
  ContextFolder out;
  if (path.empty()) return out;
  CURDKV_CHECK(make_folder(path));
  if (::access(path.c_str(), R_OK | W_OK | X_OK) != 0) return failed("cannot use the folder", path, errno);
  out.path_ = path;
  out.remove_remains();
  return out;
}

// Of files that were being written when a server was killed. What is younger may be another's, under way.
void ContextFolder::remove_remains() const {
  const auto old = fs::file_time_type::clock::now() - std::chrono::minutes(10);
  std::error_code error;
  for (fs::recursive_directory_iterator it(path_, error), end; !error && it != end; it.increment(error)) {
    std::error_code ignored;
    if (!it->path().filename().string().starts_with(".curdkv-") || !it->is_regular_file(ignored)) continue;
    if (it->last_write_time(ignored) < old) fs::remove(it->path(), ignored);
  }
}

std::string ContextFolder::path_of(const std::string& space, const std::string& id) const {
  return path_ + "/" + space + "/" + id + kSuffix;
}

std::optional<ContextFolder::File> ContextFolder::find(const std::string& space,
                                                       const std::string& id) const {
  if (!is_there() || !is_id(id)) return std::nullopt;
  File file = {.space = space, .id = id, .path = path_of(space, id)};
  struct stat status = {};
  if (::lstat(file.path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return std::nullopt;
  file.bytes = status.st_size;
  file.created = status.st_mtime;
  file.used = std::max(status.st_atime, status.st_mtime);
  file.pinned = ::access((path_ + "/" + space + "/" + id + ".pin").c_str(), F_OK) == 0;
  return file;
}

std::vector<ContextFolder::File> ContextFolder::list(const std::string& space) const {
  std::vector<File> out;
  if (!is_there()) return out;
  std::error_code error;
  std::vector<std::string> spaces = {space};
  if (space.empty()) {
    spaces.clear();
    for (fs::directory_iterator it(path_, error), end; !error && it != end; it.increment(error)) {
      if (it->is_directory(error)) spaces.push_back(it->path().filename().string());
    }
  }
  for (const std::string& s : spaces) {
    for (fs::directory_iterator it(path_ + "/" + s, error), end; !error && it != end; it.increment(error)) {
      if (it->path().extension() != kSuffix) continue;
      if (auto file = find(s, it->path().stem().string())) out.push_back(std::move(*file));
    }
    error.clear();
  }
  return out;
}

void ContextFolder::touch(const File& file) const {
  // Of the two times that of the last use; who has the file mapped looks whether the other has changed.
  const timespec times[] = {{0, UTIME_NOW}, {0, UTIME_OMIT}};
  ::utimensat(AT_FDCWD, file.path.c_str(), times, AT_SYMLINK_NOFOLLOW);
}

Result<void> ContextFolder::pin(const File& file, bool pinned) const {
  const std::string marker = path_ + "/" + file.space + "/" + file.id + ".pin";
  if (!pinned) {
    if (::unlink(marker.c_str()) != 0 && errno != ENOENT) return failed("cannot remove", marker, errno);
    return {};
  }
  const Descriptor made(::open(marker.c_str(), O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!made) return failed("cannot write", marker, errno);
  return {};
}

Result<void> ContextFolder::remove(const File& file) const {
  CURDKV_CHECK(pin(file, false));
  if (::unlink(file.path.c_str()) != 0 && errno != ENOENT) return failed("cannot remove", file.path, errno);
  ::unlink((path_ + "/" + file.space + "/" + file.id + ".lock").c_str());
  return {};
}

Result<void> ContextFolder::make_space(const std::string& space) const {
  return make_folder(path_ + "/" + space);
}

int64_t ContextFolder::keep_within(int64_t most, const std::string& but) const {
  std::vector<File> files = list("");
  int64_t sum = 0, n_removed = 0;
  for (const File& f : files) sum += f.bytes;
  std::sort(files.begin(), files.end(),
            [](const File& a, const File& b) { return a.used != b.used ? a.used < b.used : a.id < b.id; });
  for (const File& f : files) {
    if (sum <= most) break;
    if (f.pinned || f.id == but || !remove(f)) continue;
    sum -= f.bytes;
    ++n_removed;
  }
  return n_removed;
}

std::optional<Descriptor> ContextFolder::lock(const std::string& space, const std::string& id) const {
  if (!is_there() || !is_id(id)) return Descriptor();
  if (!make_space(space)) return Descriptor();
  const std::string path = path_ + "/" + space + "/" + id + ".lock";
  Descriptor file(::open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file) return Descriptor();  // reading it twice is better than not at all
  if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) return std::nullopt;
  return file;
}

}  // namespace curdkv::server
