#include "eval/files.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>

namespace curdkv::eval {

Result<std::string> read_file(const std::string& path) {
  const auto failed = [&] {
    return Error{ErrorCode::bad_input, "cannot read " + path + ": " + std::strerror(errno)};
  };
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
  if (!file) return failed();
  struct stat status = {};
  if (fstat(fileno(file.get()), &status) != 0) return failed();
  if (S_ISCHR(status.st_mode) || S_ISBLK(status.st_mode)) {  // /dev/zero has no end
    return Error{ErrorCode::bad_input, path + " is a device, not a file"};
  }
  std::string out;
  char block[1 << 16];
  while (const size_t n = std::fread(block, 1, sizeof block, file.get())) out.append(block, n);
  if (std::ferror(file.get())) return failed();
  return out;
}

Result<void> write_file(const std::string& path, std::string_view text) {
  const std::string unfinished = path + ".part";
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(unfinished.c_str(), "wb"),
                                                             std::fclose);
  const bool written = file && std::fwrite(text.data(), 1, text.size(), file.get()) == text.size() &&
                       std::fflush(file.get()) == 0 && std::rename(unfinished.c_str(), path.c_str()) == 0;
  if (written) return {};
  const Error error = {ErrorCode::bad_input, "cannot write " + path + ": " + std::strerror(errno)};
  if (file) std::remove(unfinished.c_str());
  return error;
}

Result<void> check_writable(const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored))
    return Error{ErrorCode::bad_input, "cannot write " + path + ": it is a folder"};
  const std::string unfinished = path + ".part";
  if (std::FILE* file = std::fopen(unfinished.c_str(), "wb"); file != nullptr) {
    std::fclose(file);
    std::remove(unfinished.c_str());
    return {};
  }
  return Error{ErrorCode::bad_input, "cannot write " + path + ": " + std::strerror(errno)};
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

}  // namespace curdkv::eval
