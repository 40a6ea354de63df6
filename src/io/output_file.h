// The one way in which whole files are written: what was there before stays until all of the new text is on
// the disk. A symbolic link is followed and its target replaced; a device, a pipe or a descriptor
// (/dev/stdout, /dev/fd/3) is written to. A file that is replaced keeps its mode.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "curdkv/result.h"

namespace curdkv {

// Errors: io with the system's reason; the file is then as it was before.
Result<void> write_file(const std::string& path, std::string_view text);

// The same, bit by bit. Dropped before commit(), it leaves the file as it was.
class OutputFile {
 public:
  // mode: of a file that is made, less what umask takes from it.
  static Result<OutputFile> create(const std::string& path, unsigned mode = 0666);
  Result<void> append(std::string_view bytes);
  Result<void> commit();  // once

  OutputFile(OutputFile&&) noexcept;
  OutputFile& operator=(OutputFile&&) noexcept;
  ~OutputFile();

 private:
  struct Impl;
  explicit OutputFile(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Whether write_file() may make this file, for who does long work first. Leaves no trace. Errors: as there,
// and bad_input if the file is one of `inputs`, by whatever name.
Result<void> check_output(const std::string& path, std::span<const std::string> inputs);
// The second half of it.
Result<void> check_is_no_input(const std::string& path, std::span<const std::string> inputs);

// Removes what calls of write_file() in progress have written so far. For signal handlers that end the
// process: nothing but what is safe there.
void remove_unfinished_files();

}  // namespace curdkv
