// This process's resident memory, as Linux counts it.
#pragma once

#include <cstddef>
#include <optional>

namespace curdkv::measure {

std::optional<size_t> resident_bytes();  // now; absent where the system does not tell

// The most that was resident since reset_peak(); absent as well where the count cannot be started anew.
bool reset_peak();
std::optional<size_t> peak_resident_bytes();

}  // namespace curdkv::measure
