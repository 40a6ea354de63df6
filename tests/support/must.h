// Unwraps a Result in a test; an error ends the test program with its message.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "curdkv/executor.h"
#include "curdkv/press.h"

namespace curdkv::testing {

template <typename T>
T must(Result<T> r) {
  if (!r) {
    std::fprintf(stderr, "unexpected error: %s\n", r.error().message.c_str());
    std::abort();
  }
  return std::move(*r);
}
inline void must(const Result<void>& r) {
  if (!r) {
    std::fprintf(stderr, "unexpected error: %s\n", r.error().message.c_str());
    std::abort();
  }
}

inline std::vector<Token> random_tokens(int64_t n, int64_t n_vocab, uint32_t seed = 7) {
  std::mt19937 rng(seed);
  std::vector<Token> out;
  for (int64_t i = 0; i < n; ++i) out.push_back(static_cast<Token>(rng() % static_cast<uint64_t>(n_vocab)));
  return out;
}

inline Press make_press(const std::string& name, double ratio) {
  PressRequest request;
  request.name = name;
  request.compression_ratio = ratio;
  return must(Press::make(request));
}

inline Press budget_press(const std::string& name, int64_t budget, int64_t protect_last = 0) {
  PressRequest request;
  request.name = name;
  request.budget = budget;
  request.protect_last = protect_last;
  return must(Press::make(request));
}

inline double largest_difference(std::span<const float> a, std::span<const float> b) {
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(static_cast<double>(a[i]) - b[i]));
  return a.size() == b.size() ? worst : 1e30;
}

}  // namespace curdkv::testing
