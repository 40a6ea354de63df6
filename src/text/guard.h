// libllama checks parts of a vocabulary by assertions that would end the process, and throws in places. Calls
// that touch what a file says go through guarded(), which turns both into Errors.
#pragma once

#include <functional>

#include "curdkv/result.h"

namespace curdkv {

// Runs the call. Errors: bad_input with the assertion's or exception's text.
Result<void> guarded(const std::function<void()>& call);

}  // namespace curdkv
