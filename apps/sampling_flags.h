// How the next token is chosen, by options.
#pragma once

#include <CLI/CLI.hpp>

#include "curdkv/text.h"

namespace curdkv::app {

void add_sampling(CLI::App& app, SamplingParams& sampling);

}  // namespace curdkv::app
