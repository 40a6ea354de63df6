// How far logits are from expected ones, position by position.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <span>

#include "eval/divergence.h"

namespace curdkv::testing {

// Kullback-Leibler divergence of distributions from expected ones, and how often the likeliest tokens agree.
struct Agreement {
  double kl = 0;
  int64_t n = 0, n_agree = 0;
  void add(std::span<const float> expected, std::span<const float> got) {
    const auto p = eval::log_softmax(expected), q = eval::log_softmax(got);
    kl += eval::divergence(p, q);
    const auto best = [](const auto& x) { return std::max_element(x.begin(), x.end()) - x.begin(); };
    n_agree += best(p) == best(q);
    ++n;
  }
  double mean_kl() const { return kl / static_cast<double>(n); }
  double agreement() const { return static_cast<double>(n_agree) / static_cast<double>(n); }
  void print(const char* what) const {
    std::printf("%-50s mean KL divergence %.2g, top-1 agreement %.2f %%\n", what, mean_kl(),
                100 * agreement());
  }
};

}  // namespace curdkv::testing
