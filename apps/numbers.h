// Numbers on the command line: plain decimal ones, within bounds that the message names. (CLI11's own reading
// takes "010" for eight, and says "could not convert" of what is too large.)
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

namespace curdkv::app {

// Lengths, budgets and counts of tokens: sums of a few of them stay far from where 64 bits end.
inline constexpr int64_t kMostTokens = int64_t{1} << 30;

// Option::transform(whole_number(1, 512)): whole numbers from low to high.
CLI::Validator whole_number(int64_t low, int64_t high);
// Finite numbers; what they are, as in "is not a number". Their bounds are the library's to check.
CLI::Validator real_number(const std::string& what = "a number");
// Seeds: 0 to 2^64 - 1, and llama.cpp's -1, which draws one.
CLI::Validator seed_number();

}  // namespace curdkv::app
