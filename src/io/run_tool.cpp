#include "io/run_tool.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <optional>

#include "base/descriptor.h"
#include "base/stopwatch.h"
#include "base/try.h"

namespace curdkv {
namespace {

constexpr int kPatienceMs = 50;          // between looks at the stop flag
constexpr size_t kMostSaidBytes = 4096;  // of error output that are kept
constexpr size_t kMostLineBytes = 300;

Error system_error(const char* what, int number) {
  return {ErrorCode::io, std::string(what) + ": " + std::strerror(number)};
}

// The same open file beyond the standard three, which the program's own take the place of.
Result<Descriptor> beyond_standard(int fd) {
  const Descriptor low(fd);
  if (fd < 0) return system_error("cannot open a pipe", errno);
  Descriptor high(fcntl(fd, F_DUPFD_CLOEXEC, 3));
  if (!high) return system_error("cannot open a pipe", errno);
  return high;
}

struct Pipe {
  Descriptor read_end, write_end;

  static Result<Pipe> create() {
    std::array<int, 2> ends = {-1, -1};
    if (pipe2(ends.data(), O_CLOEXEC) != 0) return system_error("cannot open a pipe", errno);
    Pipe out;
    auto read_end = beyond_standard(ends[0]), write_end = beyond_standard(ends[1]);
    if (!read_end) return read_end.error();
    if (!write_end) return write_end.error();
    out.read_end = std::move(*read_end);
    out.write_end = std::move(*write_end);
    return out;
  }
};

// A file without a name, in memory: users' texts get onto no disk.
Result<Descriptor> file_of(std::string_view bytes) {
  CURDKV_TRY(Descriptor file, beyond_standard(memfd_create("curdkv-document", MFD_CLOEXEC)));
  while (!bytes.empty()) {
    const ssize_t n = write(file.get(), bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_error("cannot hold its input", errno);
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  if (lseek(file.get(), 0, SEEK_SET) != 0) return system_error("cannot hold its input", errno);
  return file;
}

// A process and its group, ended unless it ended by itself.
class Child {
 public:
  Child() = default;
  Child(Child&& other) noexcept : pid_(std::exchange(other.pid_, 0)) {}
  Child& operator=(Child&&) = delete;
  ~Child() {
    if (pid_ <= 0) return;
    kill(-pid_, SIGKILL);
    while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }

  static Result<Child> start(const std::string& file, const std::vector<std::string>& arguments,
                             std::array<int, 3> standard, char* const* environment) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    int error = 0;
    for (int i = 0; i < 3 && error == 0; ++i) {
      error = posix_spawn_file_actions_adddup2(&actions, standard[static_cast<size_t>(i)], i);
    }
    // What this process blocks and ignores is nothing to the program.
    sigset_t none, ignored;
    sigemptyset(&none);
    sigemptyset(&ignored);
    sigaddset(&ignored, SIGPIPE);
    sigaddset(&ignored, SIGXFSZ);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &ignored);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes,
                             POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    std::vector<std::string> words = {file};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    char* const nothing[] = {nullptr};
    Child out;
    if (error == 0) {
      error = posix_spawn(&out.pid_, file.c_str(), &actions, &attributes, argv.data(),
                          environment != nullptr ? environment : nothing);
    }
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    if (error == 0) return out;
    out.pid_ = 0;
    return system_error("cannot be run", error);
  }

  // "" if it ended well, what happened if not; nothing while it runs.
  std::optional<std::string> ended() {
    int status = 0;
    const pid_t got = waitpid(pid_, &status, WNOHANG);
    if (got == 0 || (got < 0 && errno == EINTR)) return std::nullopt;
    pid_ = 0;
    if (got < 0) return "its exit status is not known";
    if (WIFSIGNALED(status)) return "ended by signal " + std::to_string(WTERMSIG(status));
    return WEXITSTATUS(status) == 0 ? "" : "exit status " + std::to_string(WEXITSTATUS(status));
  }

 private:
  pid_t pid_ = 0;
};

// Appends what there is, up to `most` bytes in all; what is more is read and dropped, and counted. False at
// the end.
Result<bool> read_some(int fd, std::string& out, size_t most, bool& more) {
  std::array<char, 1 << 16> block;
  const ssize_t n = read(fd, block.data(), block.size());
  if (n < 0 && errno == EINTR) return true;
  if (n < 0) return system_error("cannot be read from", errno);
  const size_t room = most - out.size();
  more = more || static_cast<size_t>(n) > room;
  out.append(block.data(), std::min(room, static_cast<size_t>(n)));
  return n > 0;
}

std::string first_line(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos) return "";
  text.remove_prefix(begin);
  return std::string(text.substr(0, std::min(text.find_first_of("\r\n"), kMostLineBytes)));
}

Result<ToolOutput> run(const std::string& file, const std::vector<std::string>& arguments,
                       std::string_view input, const ToolSettings& settings) {
  const Stopwatch watch;
  CURDKV_TRY(Descriptor in, file_of(input));
  CURDKV_TRY(Pipe out, Pipe::create());
  CURDKV_TRY(Pipe err, Pipe::create());
  CURDKV_TRY(Child child, Child::start(file, arguments, {in.get(), out.write_end.get(), err.write_end.get()},
                                       settings.environment));
  in = Descriptor();
  out.write_end = Descriptor();
  err.write_end = Descriptor();

  ToolOutput result;
  std::string said;
  bool out_is_open = true, err_is_open = true, too_much = false, more_was_said = false;
  for (;;) {
    if (settings.stop != nullptr && *settings.stop) return Error{ErrorCode::cancelled, "interrupted"};
    if (watch.ms() > static_cast<double>(settings.most_ms)) {
      return Error{ErrorCode::bad_input,
                   "takes longer than " + std::to_string(settings.most_ms / 1000) + " seconds"};
    }
    // A program that goes on and on without output, or closes it and stays, is waited for as well.
    pollfd waiting[] = {{out_is_open ? out.read_end.get() : -1, POLLIN, 0},
                        {err_is_open ? err.read_end.get() : -1, POLLIN, 0}};
    poll(waiting, 2, kPatienceMs);
    if (waiting[0].revents != 0) {
      CURDKV_TRY(out_is_open, read_some(out.read_end.get(), result.text, settings.most_bytes, too_much));
    }
    if (waiting[1].revents != 0) {
      CURDKV_TRY(err_is_open, read_some(err.read_end.get(), said, kMostSaidBytes, more_was_said));
    }
    if (too_much) {
      return Error{ErrorCode::bad_input,
                   "gives more than " + std::to_string(settings.most_bytes >> 20) + " MiB"};
    }
    if (out_is_open || err_is_open) continue;
    if (auto failure = child.ended()) {
      result.failure = std::move(*failure);
      result.said = first_line(said);
      return result;
    }
  }
}

}  // namespace

std::string find_tool(const std::string& name, const std::string& path) {
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find(':', begin), path.size());
    const std::string file = path.substr(begin, end - begin) + "/" + name;
    struct stat status = {};
    if (path[begin] == '/' && stat(file.c_str(), &status) == 0 && S_ISREG(status.st_mode) &&
        access(file.c_str(), X_OK) == 0) {
      return file;
    }
    begin = end + 1;
  }
  return "";
}

Result<ToolOutput> run_tool(const std::string& file, const std::vector<std::string>& arguments,
                            std::string_view input, const ToolSettings& settings) {
  auto output = run(file, arguments, input, settings);
  if (output) return output;
  return Error{output.error().code, file.substr(file.rfind('/') + 1) + " " + output.error().message};
}

}  // namespace curdkv
