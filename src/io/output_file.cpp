#include "io/output_file.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <random>

#include "base/descriptor.h"
#include "base/try.h"

namespace curdkv {
namespace {

Error failed(const std::string& path, const std::string& why, ErrorCode code = ErrorCode::io) {
  return {code, "cannot write " + path + ": " + why};
}

// Files that remove_unfinished_files() would have to remove. A signal handler reads this, so it is plain
// memory that is never freed while its name is listed.
std::array<std::atomic<const char*>, 16> unfinished = {};

// A file that is removed again unless it is renamed; also by remove_unfinished_files().
class TemporaryFile {
 public:
  // A name that cannot be guessed, in a folder; nothing there is opened, followed or removed.
  static Result<TemporaryFile> create(const std::string& path, const std::string& folder, mode_t mode) {
    std::random_device random;
    int error = EEXIST;
    for (int i = 0; i < 100 && error == EEXIST; ++i) {
      static constexpr char kDigits[] = "abcdefghijklmnopqrstuvwxyz0123456789";
      std::string name = folder + "/.curdkv-";
      for (int c = 0; c < 16; ++c) name += kDigits[random() % 36];
      TemporaryFile out(std::move(name));
      out.file_ =
          Descriptor(::open(out.name_->c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode));
      if (out.file_) {
        out.made_ = true;
        return out;
      }
      error = errno;
    }
    return failed(path, "no file can be made in its folder " + folder + ": " + std::strerror(error));
  }

  TemporaryFile(TemporaryFile&& other) noexcept
      : name_(std::move(other.name_)),
        file_(std::move(other.file_)),
        slot_(std::exchange(other.slot_, nullptr)),
        made_(std::exchange(other.made_, false)) {}
  ~TemporaryFile() {
    if (made_) ::unlink(name_->c_str());
    if (slot_ != nullptr) slot_->store(nullptr);
  }

  int file() const { return file_.get(); }
  bool rename_to(const std::string& target) {
    if (::rename(name_->c_str(), target.c_str()) != 0) return false;
    made_ = false;
    return true;
  }

 private:
  explicit TemporaryFile(std::string name) : name_(std::make_unique<const std::string>(std::move(name))) {
    for (auto& slot : unfinished) {
      const char* free = nullptr;
      if (slot.compare_exchange_strong(free, name_->c_str())) {
        slot_ = &slot;
        return;
      }
    }
  }

  std::unique_ptr<const std::string> name_;
  Descriptor file_;
  std::atomic<const char*>* slot_ = nullptr;
  bool made_ = false;
};

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

// Where a path leads.
struct Target {
  std::string path;      // no link
  int descriptor = -1;   // of this process, if the path is a name of one
  bool special = false;  // written to, not replaced
  std::optional<struct stat> status;
};

// The number of a descriptor of ours if `link`, in this folder, is its name in /proc; -1 if it is another
// process's; nothing if it is no descriptor.
std::optional<int> descriptor_named(const std::string& folder, const std::string& link) {
  const std::unique_ptr<char, void (*)(void*)> real(::realpath(folder.c_str(), nullptr), std::free);
  if (!real) return std::nullopt;
  const std::string where = real.get();
  if (!where.starts_with("/proc/") || !where.ends_with("/fd")) return std::nullopt;
  const std::string own = "/proc/" + std::to_string(::getpid());
  const bool ours = where == own + "/fd" || where.starts_with(own + "/task/");
  return ours ? std::atoi(link.substr(link.rfind('/') + 1).c_str()) : -1;
}

Result<Target> find_target(const std::string& path) {
  Target out = {path, -1, false, std::nullopt};
  if (path.empty()) return failed("''", "the name is empty");
  for (int n_links = 0;; ++n_links) {
    struct stat status = {};
    if (::lstat(out.path.c_str(), &status) != 0) {
      if (errno == ENOENT) return out;  // to be made
      return failed(path, std::strerror(errno));
    }
    if (!S_ISLNK(status.st_mode)) {
      out.status = status;
      break;
    }
    if (n_links == 40) return failed(path, std::strerror(ELOOP));
    const std::string folder = folder_of(out.path);
    if (const auto descriptor = descriptor_named(folder, out.path)) {
      out.special = true;
      out.descriptor = *descriptor;
      if (::stat(out.path.c_str(), &status) == 0) out.status = status;
      return out;
    }
    char next[PATH_MAX];
    const ssize_t n = ::readlink(out.path.c_str(), next, sizeof next);
    if (n < 0) return failed(path, std::strerror(errno));
    const std::string to(next, static_cast<size_t>(n));
    out.path = to.starts_with('/') ? to : folder + "/" + to;
  }
  if (S_ISDIR(out.status->st_mode)) return failed(path, "it is a folder");
  out.special = !S_ISREG(out.status->st_mode);
  return out;
}

// Whether the target may be written or replaced.
Result<void> check_access(const std::string& path, const Target& target) {
  if (target.descriptor >= 0) {
    const int flags = ::fcntl(target.descriptor, F_GETFL);
    if (flags < 0) return failed(path, std::strerror(errno));
    if ((flags & O_ACCMODE) == O_RDONLY) return failed(path, "it is open for reading only");
    return {};
  }
  if (target.status) {
    // Root may write everything; who has taken away all permissions to write means it all the same.
    if (!target.special && (target.status->st_mode & 0222) == 0) {
      return failed(path, "it is write-protected (chmod u+w makes it writable)");
    }
    if (::faccessat(AT_FDCWD, target.path.c_str(), W_OK, AT_EACCESS) != 0) {
      return failed(path, std::strerror(errno));
    }
    if (target.special) return {};
  }
  const std::string folder = folder_of(target.path);
  if (target.path.ends_with('/')) return failed(path, "it is the name of a folder");
  if (::faccessat(AT_FDCWD, folder.c_str(), W_OK | X_OK, AT_EACCESS) != 0) {
    return failed(path, "its folder " + folder + ": " + std::strerror(errno));
  }
  return {};
}

// Returns an errno, or 0.
int write_all(int file, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(file, text.data(), text.size());
    if (n > 0) {
      text.remove_prefix(static_cast<size_t>(n));
    } else if (n == 0) {
      return ENOSPC;
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      pollfd waiting = {file, POLLOUT, 0};
      ::poll(&waiting, 1, -1);
    } else if (errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

}  // namespace

struct OutputFile::Impl {
  std::string path;
  Target target;
  Descriptor special;                      // that is written to
  std::optional<TemporaryFile> temporary;  // or that will replace the target
};

OutputFile::OutputFile(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
OutputFile::OutputFile(OutputFile&&) noexcept = default;
OutputFile& OutputFile::operator=(OutputFile&&) noexcept = default;
OutputFile::~OutputFile() = default;

Result<OutputFile> OutputFile::create(const std::string& path, unsigned mode) {
  CURDKV_TRY(Target target, find_target(path));
  CURDKV_CHECK(check_access(path, target));
  auto impl = std::make_unique<Impl>(Impl{path, std::move(target), {}, {}});
  const Target& to = impl->target;
  if (to.special) {
    impl->special = Descriptor(to.descriptor >= 0 ? ::fcntl(to.descriptor, F_DUPFD_CLOEXEC, 0)
                                                  : ::open(to.path.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY));
    if (!impl->special) return failed(path, std::strerror(errno));
  } else {
    // What replaces a file must not be readable to others even for a moment.
    CURDKV_TRY(TemporaryFile file, TemporaryFile::create(path, folder_of(to.path), to.status ? 0600 : mode));
    impl->temporary.emplace(std::move(file));
  }
  return OutputFile(std::move(impl));
}

Result<void> OutputFile::append(std::string_view bytes) {
  const int file = impl_->temporary ? impl_->temporary->file() : impl_->special.get();
  if (const int error = write_all(file, bytes)) return failed(impl_->path, std::strerror(error));
  return {};
}

Result<void> OutputFile::commit() {
  if (!impl_->temporary) return {};
  const Target& target = impl_->target;
  const std::string& path = impl_->path;
  TemporaryFile& file = *impl_->temporary;
  if (target.status) {
    const bool same_owner = ::fchown(file.file(), target.status->st_uid, target.status->st_gid) == 0;
    const mode_t mode = target.status->st_mode & (same_owner ? 07777 : 0777);
    if (::fchmod(file.file(), mode) != 0) return failed(path, std::strerror(errno));
  }
  if (::fsync(file.file()) != 0 && errno != EINVAL && errno != ENOTSUP) {  // not every file system can
    return failed(path, std::strerror(errno));
  }
  if (!file.rename_to(target.path)) return failed(path, std::strerror(errno));
  // The file is there; that its name is on the disk too is as far as the system can tell.
  const Descriptor names(::open(folder_of(target.path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (names) ::fsync(names.get());
  return {};
}

Result<void> write_file(const std::string& path, std::string_view text) {
  CURDKV_TRY(OutputFile file, OutputFile::create(path));
  CURDKV_CHECK(file.append(text));
  return file.commit();
}

Result<void> check_output(const std::string& path, std::span<const std::string> inputs) {
  CURDKV_TRY(const Target target, find_target(path));
  CURDKV_CHECK(check_access(path, target));
  return check_is_no_input(path, inputs);
}

Result<void> check_is_no_input(const std::string& path, std::span<const std::string> inputs) {
  struct stat out = {}, in = {};
  if (::stat(path.c_str(), &out) != 0 || S_ISCHR(out.st_mode)) return {};  // a terminal may be both
  for (const std::string& input : inputs) {
    if (::stat(input.c_str(), &in) == 0 && in.st_dev == out.st_dev && in.st_ino == out.st_ino) {
      return failed(path, "it is an input too, as " + input + "; name another file for the output",
                    ErrorCode::bad_input);
    }
  }
  return {};
}

void remove_unfinished_files() {
  for (auto& slot : unfinished) {
    if (const char* name = slot.load()) ::unlink(name);
  }
}

}  // namespace curdkv
