// How answers are generated, by options: -n, --draft, and how the next token is chosen.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>

#include "curdkv/generate.h"

namespace curdkv::app {

void add_generation(CLI::App& app, GenerateOptions& options);

// llama.cpp's words for no limit in ours, once the options are read. seed: of --seed.
void settle_generation(GenerateOptions& options, uint64_t seed);

}  // namespace curdkv::app
