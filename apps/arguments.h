// The first look at a command line: words for help, the habits of llama.cpp's users, and what is unknown,
// which is named with what may have been meant. What comes out is for CLI11 to parse.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "curdkv/result.h"

namespace curdkv::app {

struct Arguments {
  std::vector<std::string> words;  // for CLI11, in the order given
  std::vector<std::string> notes;  // for the user: what was taken and has no effect
  bool version = false;            // the program's version is all that is wanted
};

// program: with all its subcommands. given: what came behind the program's name. Errors: bad_argument.
Result<Arguments> read_arguments(const CLI::App& program, const std::vector<std::string>& given);

}  // namespace curdkv::app
