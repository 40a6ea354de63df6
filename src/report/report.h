// A self-contained HTML page of results: no network, readable on paper, on a phone and in the dark.
#pragma once

#include <span>
#include <string>

#include "curdkv/result.h"

namespace curdkv::report {

// Inputs: files of predictions ('curdkv eval') and figures ('curdkv analyze'), in any order. Errors: as of
// read_text(); corrupt naming the file that is neither; bad_input for one that holds nothing.
Result<std::string> make_report(std::span<const std::string> paths);

}  // namespace curdkv::report
