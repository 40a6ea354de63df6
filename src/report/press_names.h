// Names of presses, short enough for a legend.
#pragma once

#include <string>
#include <vector>

namespace curdkv::report {

// "name:setting=value:..." as the name and the settings that tell it from the others: left out is what all
// presses of one name share, and what a ratio counts. As different from each other as what is given.
std::vector<std::string> short_names(const std::vector<std::string>& presses);

}  // namespace curdkv::report
