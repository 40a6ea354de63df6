// What was most likely meant by a name that nobody knows.
#pragma once

#include <string>
#include <vector>

namespace curdkv {

// The name that what was typed begins, or is fewest letters from: a third of them, or half where the first
// four agree. Case and dashes in front do not matter. "" if no name is like it.
std::string nearest(const std::string& typed, const std::vector<std::string>& names);

// " (did you mean 'NAME'?)", or "".
std::string did_you_mean(const std::string& typed, const std::vector<std::string>& names);

}  // namespace curdkv
