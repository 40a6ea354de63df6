// SHA-256, by which results name their model and contexts their document.
#pragma once

#include <string>
#include <string_view>

#include "curdkv/result.h"

namespace curdkv::app {

std::string sha256_of(std::string_view bytes);  // 64 hexadecimal digits
Result<std::string> sha256_of_file(const std::string& path);

}  // namespace curdkv::app
