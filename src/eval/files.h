// Whole files and their lines.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "curdkv/result.h"

namespace curdkv::eval {

Result<std::string> read_file(const std::string& path);  // errors: bad_input with the system's reason
std::vector<std::string_view> lines_of(
    std::string_view text);  // without their ends; a last empty one is none

}  // namespace curdkv::eval
