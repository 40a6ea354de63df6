// Parameters and factories of the scorers, a pair for each.
#pragma once

#include <memory>
#include <vector>

#include "press/params.h"
#include "press/scorer.h"

namespace curdkv {

std::vector<PressParam> cur_params();
std::unique_ptr<Scorer> make_cur(const ParamValues& values);

}  // namespace curdkv
