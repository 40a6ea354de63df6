// Parameters and factories of the allocations.
#pragma once

#include <memory>
#include <vector>

#include "press/allocation.h"
#include "press/params.h"

namespace curdkv {

std::unique_ptr<Allocation> make_uniform(const ParamValues& values);

std::vector<PressParam> adaptive_params();
std::unique_ptr<Allocation> make_adaptive(const ParamValues& values);

}  // namespace curdkv
