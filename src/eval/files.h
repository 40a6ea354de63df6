// Whole files and their lines.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "curdkv/result.h"

namespace curdkv::eval {

Result<std::string> read_file(const std::string& path);  // errors: bad_input with the system's reason
// The file is there as a whole or, on errors, as it was before: bad_input with the system's reason.
Result<void> write_file(const std::string& path, std::string_view text);
// Whether write_file() could make this file, for who does long work first. Errors as there.
Result<void> check_writable(const std::string& path);
std::vector<std::string_view> lines_of(
    std::string_view text);  // without their ends; a last empty one is none

}  // namespace curdkv::eval
