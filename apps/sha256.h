// The SHA-256 of a file, by which results name their model.
#pragma once

#include <string>

#include "curdkv/result.h"

namespace curdkv::app {

Result<std::string> sha256_of_file(const std::string& path);  // 64 hexadecimal digits

}  // namespace curdkv::app
