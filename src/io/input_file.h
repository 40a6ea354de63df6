// Whole files read into memory: of a kind that has an end, and of a bounded size.
// Regular files, pipes and terminals are read; devices and folders are refused. A pipe is waited for.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "curdkv/result.h"

namespace curdkv {

inline constexpr size_t kMostDocumentBytes = size_t{256} << 20;
inline constexpr size_t kMostDataBytes = size_t{2} << 30;

// The bytes of a file. Errors: io with the system's reason, or if it is none to read; bad_input if it holds
// more than max_bytes.
Result<std::string> read_file(const std::string& path, size_t max_bytes = kMostDataBytes);
// The same of an open file, from its beginning if it has one; it stays open. `name` is for errors.
Result<std::string> read_descriptor(int file, const std::string& name, size_t max_bytes);

// A text, without the UTF-8 byte order mark it may begin with. Errors: as of read_file(); unsupported if it
// is something else than text, saying what it is and how to make text of it. Malformed UTF-8 is not looked
// for.
Result<std::string> read_text(const std::string& path, size_t max_bytes = kMostDataBytes);
Result<std::string> as_text(std::string bytes, const std::string& name);

std::vector<std::string_view> lines_of(
    std::string_view text);  // without their ends; a last empty one is none

}  // namespace curdkv
