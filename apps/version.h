// What `curdkv --version` says.
#pragma once

#include <string>

namespace curdkv::app {

std::string version_text();

}  // namespace curdkv::app
