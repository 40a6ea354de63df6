// Another program run as a filter: bytes in, bytes out, within bounds. No shell, no file names: what it reads
// is its standard input, so that nothing of a user's can be an option.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "curdkv/result.h"
#include "io/input_file.h"

namespace curdkv {

struct ToolSettings {
  std::string path;                         // folders that hold programs, with colons between, as $PATH
  char* const* environment = nullptr;       // the program's, as execve() takes it; none: an empty one
  const std::atomic<bool>* stop = nullptr;  // raised: the program is ended
  int64_t most_ms = 300'000;
  size_t most_bytes = kMostDocumentBytes;  // of output
};

struct ToolOutput {
  std::string text;
  std::string said;     // the first line of its error output
  std::string failure;  // "" if it ended well: "exit status 3", "ended by signal 11"
};

// Where a program lies, or "". Folders that are not named from the root are passed over.
std::string find_tool(const std::string& name, const std::string& path);

// Runs the program `file` on `input`. It gets a process group of its own, which is ended with all in it when
// a bound is passed. Errors, which begin with the name the program was called by: bad_input for more output
// or time than is allowed; cancelled; io if it cannot be run.
Result<ToolOutput> run_tool(const std::string& file, const std::vector<std::string>& arguments,
                            std::string_view input, const ToolSettings& settings);

}  // namespace curdkv
